"""`vastproxy status --check`: one line and one of four exit codes, whatever answers."""

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.deaf import deaf_port
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.check import Checked, Grade, check, judge
from vastproxy.settings import SettingsError

StartPeer = Callable[[Answers], Peer]
#: The plugin guidelines: state, text without a bar, and perhaps performance data, each `name=number[unit];w;c;min;max`.
LINE = re.compile(
    r"VASTPROXY (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \|( [a-z_]+=[-+.\de]+s?(;[^; ]*){0,4})+)?"
)


def healthz(status: str, **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "reason": None,
        "version": "9.9",
        "uptime_s": 7_380.4,
        "vast_api": {"status": "healthy", "latency_ms": 123.4, "error": None},
        "backends": {"total": 3, "healthy": 3, "unhealthy": 0},
        **more,
    }


@pytest.mark.parametrize(
    ("health", "code", "line"),
    [
        (
            healthz("healthy"),
            0,
            "VASTPROXY OK - 3 of 3 backends can serve | "
            "healthy=3;3:;1:;0;3 backends=3;;;0 vast_api=0.1234s;;;0 uptime=7380s;;;0",
        ),
        (
            healthz("degraded", reason="2 of 3 backends can serve", backends={"total": 3, "healthy": 2}),
            1,
            "VASTPROXY WARNING - 2 of 3 backends can serve | "
            "healthy=2;3:;1:;0;3 backends=3;;;0 vast_api=0.1234s;;;0 uptime=7380s;;;0",
        ),
        (
            healthz(
                "unhealthy", reason="vast.ai says: a|b\nc", backends={"total": 0, "healthy": 0}, vast_api={}
            ),
            2,
            "VASTPROXY CRITICAL - vast.ai says: a/b c | healthy=0;0:;1:;0;0 backends=0;;;0 uptime=7380s;;;0",
        ),
        (
            healthz(
                "healthy", account={"credit_dollars": 37.42, "dollars_per_hour": 0.5, "hours_left": 74.8}
            ),
            0,
            "VASTPROXY OK - 3 of 3 backends can serve | healthy=3;3:;1:;0;3 backends=3;;;0 vast_api=0.1234s;;;0 "
            "uptime=7380s;;;0 credit=37.42;;;0 hours_left=74.8;;;0",
        ),
        ({}, 3, "VASTPROXY UNKNOWN - the proxy does not say how it is; is it another version?"),
    ],
)
def test_what_a_proxy_says(run: Run, peer: StartPeer, health: dict[str, Any], code: int, line: str) -> None:
    there = peer({"/healthz": (503 if code == 2 else 200, health)})
    result = run("status", "--check", there.url)
    assert result.output == f"{line}\n"
    assert result.exit_code == code
    assert [path for path, _ in there.seen] == ["/healthz"]


def test_no_key_is_sent(run: Run, peer: StartPeer) -> None:
    there = peer({"/healthz": (200, healthz("healthy"))})
    run("status", "--check", there.url, VASTPROXY_API_KEYS="first")
    assert there.seen == [("/healthz", None)]


def test_nothing_answers(run: Run) -> None:
    with deaf_port() as port:
        result = run("status", "--check", f"127.0.0.1:{port}")
        assert result.output.startswith(f"VASTPROXY CRITICAL - nothing answers at http://127.0.0.1:{port}")
        assert result.exit_code == 2


def test_too_slow_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert check(lambda: url, read_timeout_s=0.05).grade is Grade.CRITICAL


def test_something_else_answers(run: Run, peer: StartPeer) -> None:
    result = run("status", "--check", peer({"/healthz": (200, "<html>")}).url)
    assert result.output.startswith("VASTPROXY CRITICAL - what answers at")


def test_bad_settings_are_not_known(run: Run) -> None:
    """Exit code 2, which they have elsewhere, would call the proxy down."""
    result = run("status", "--check", VASTPROXY_ROUTING__POLICY="nonsense")
    assert result.output.startswith("VASTPROXY UNKNOWN - routing.policy")
    assert result.output.count("\n") == 1
    assert result.exit_code == 3


def test_an_address_that_is_none_is_not_known(run: Run) -> None:
    result = run("status", "--check", "http://me:secret@gw")
    assert result.exit_code == 3
    assert "secret" not in result.output


def test_errors_of_settings_are_told_by_the_check_itself() -> None:
    def nowhere() -> str:
        raise SettingsError("server.listen: no")

    assert str(check(nowhere)) == "VASTPROXY UNKNOWN - server.listen: no"


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["healthy", "degraded", "unhealthy"]) | _json,
            "reason": _json,
            "backends": st.fixed_dictionaries({}, optional={"total": _json, "healthy": _json}) | _json,
            "vast_api": st.fixed_dictionaries({}, optional={"latency_ms": _json}) | _json,
            "uptime_s": _json,
        },
    )
)
def test_whatever_is_answered_becomes_one_line(health: dict[str, Any]) -> None:
    """A plugin's line is read by machines: there is always exactly one, and it has their form."""
    assert LINE.fullmatch(str(judge(health))), str(judge(health))


def test_a_line_without_data_has_no_bar() -> None:
    assert str(Checked(Grade.OK, "fine")) == "VASTPROXY OK - fine"
