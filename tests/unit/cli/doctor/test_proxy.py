"""What a running proxy says of itself, and what that means."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.deaf import deaf_port
from tests.unit.cli.conftest import Answers, Peer
from vastproxy.cli.asking import NobodyThere, NoProxyThere
from vastproxy.cli.doctor.proxy import Answered, ask, checks
from vastproxy.services.diagnosis.check import Verdict

BASE = "http://127.0.0.1:8080"
HEALTH = {"status": "healthy", "version": "9.9", "uptime_s": 61, "backends": {"total": 2, "healthy": 2}}


def told(over: dict[str, Any], status: int = 200) -> list[tuple[str, Verdict]]:
    found = checks(BASE, Answered({**HEALTH, **over}, status), version="9.9")
    assert all(bool(one.fix) == (one.verdict in (Verdict.WARN, Verdict.FAIL)) for one in found)
    return [(one.id, one.verdict) for one in found]


def test_a_healthy_one() -> None:
    found = checks(BASE, Answered(HEALTH, 200), version="9.9")
    assert {one.verdict for one in found} == {Verdict.OK}
    assert found[0].detail == f"{BASE} is healthy, up 1 min 1 s, 2 of 2 backends can serve"


@pytest.mark.parametrize(
    ("over", "status", "verdicts"),
    [
        ({"status": "degraded", "reason": "one is down"}, 200, ["warn", "ok", "ok"]),
        ({"status": "unhealthy"}, 200, ["fail", "ok", "ok"]),
        ({"version": "9.8"}, 200, ["ok", "warn", "ok"]),
        ({"version": None, "uptime_s": None, "backends": None}, 401, ["ok", "warn", "warn"]),
        ({}, 403, ["ok", "ok", "warn"]),
        ({}, 500, ["ok", "ok", "warn"]),
    ],
)
def test_others(over: dict[str, Any], status: int, verdicts: list[str]) -> None:
    assert [verdict.value for _, verdict in told(over, status)] == verdicts


def test_none_and_something_else() -> None:
    (none,) = checks(BASE, NobodyThere("nothing answers"))
    assert none.verdict is Verdict.SKIP
    (other,) = checks(BASE, NoProxyThere("what answers is not vastproxy"))
    assert other.verdict is Verdict.FAIL
    assert "server.listen" in other.fix


def test_asking(peer: Callable[[Answers], Peer]) -> None:
    there = peer({"/healthz": (200, HEALTH), "/vastproxy/v1/backends": (401, {})})
    assert ask(there.url, "k3y") == Answered(HEALTH, 401)
    assert there.seen[-1] == ("/vastproxy/v1/backends", "Bearer k3y")
    strange = ask(peer({"/healthz": (200, "<html>")}).url, None)
    assert isinstance(strange, NoProxyThere)
    assert not isinstance(strange, NobodyThere)
    with deaf_port() as port:
        assert isinstance(ask(f"http://127.0.0.1:{port}", None), NobodyThere)
