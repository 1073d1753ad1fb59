"""`vastproxy requests`, `cancel` and `abort`, asked of an HTTP server that answers as a proxy does."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.asking import asking
from vastproxy.cli.orders import NotDone
from vastproxy.cli.requests import Kind, follow, listed

StartPeer = Callable[[Answers], Peer]
LIST = "/vastproxy/v1/requests"
ABORT = "/vastproxy/v1/abort"


def row(id: str, state: str, **over: Any) -> dict[str, Any]:
    return {
        "id": id,
        "state": state,
        "path": "/v1/chat/completions",
        "model": "Qwen/Qwen3-8B",
        "status": 200 if state == "done" else None,
        "total_ms": 1234.5,
        "queue_ms": 0.0,
        "first_byte_ms": 80.0,
        "attempts": [{"instance": 48001001, "port": 8000}],
        **over,
    }


ROWS = [
    row("0190f5c2a1b37cde8f00000000000001", "running"),
    row("r\x1b[31m2", "waiting", attempts=[], first_byte_ms=None, model=None, total_ms=90_000.0),
    row("r3", "done", status=503),
    row("r4", "done"),
]


def refusal(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}


def test_the_table_fits_a_terminal_and_says_how_each_stands(run: Run, peer: StartPeer) -> None:
    there = peer({LIST: (200, {"requests": ROWS})})
    result = run("requests", there.url)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["Request", "State", "Asks", "for", "Instance", "Age", "Waited", "First"]
    assert "running" in result.output
    assert "1 min 30 s" in result.output
    assert "503" in result.output
    assert "\x1b" not in result.output
    assert "48001001" in lines[1]


def test_json_is_what_the_proxy_says(run: Run, peer: StartPeer) -> None:
    there = peer({LIST: (200, {"requests": ROWS})})
    result = run("requests", there.url, "--json")
    assert json.loads(result.output) == {"requests": ROWS}


def test_only_those_that_run(run: Run, peer: StartPeer) -> None:
    there = peer({LIST: (200, {"requests": ROWS})})
    result = run("requests", there.url, "--state", "running", "--json")
    assert [each["id"] for each in json.loads(result.output)["requests"]] == [ROWS[0]["id"]]
    assert (
        "no requests that are running"
        in run("requests", peer({LIST: (200, {"requests": []})}).url, "--state", "running").output
    )


def test_what_another_version_says_does_no_harm(run: Run, peer: StartPeer) -> None:
    odd = [{"id": 7}, "no", row("r", "done", total_ms="x", attempts=["x", {}], status=True)]
    for content in ({"requests": odd}, {"requests": 7}, {}):
        assert run("requests", peer({LIST: (200, content)}).url).exit_code == 0


def test_it_is_shown_again_until_somebody_has_enough(
    peer: StartPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    class Enough(Exception):
        pass

    there = peer({LIST: (200, {"requests": ROWS})})
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise Enough

    for as_json in (True, False):
        looks.clear()
        with asking(there.url, key=None) as proxy, pytest.raises(Enough):
            follow(proxy, None, 50, as_json=as_json, sleep=sleep)
        shown = capsys.readouterr().out.splitlines()
        if as_json:
            assert [json.loads(line) for line in shown] == [{"requests": ROWS}] * 3
        else:
            assert sum("Request" in line for line in shown) == 3


def test_a_proxy_that_asks_for_a_key(peer: StartPeer) -> None:
    there = peer({LIST: (401, refusal("no", "invalid_api_key"))})
    with asking(there.url, key=None) as proxy, pytest.raises(NotDone, match="VASTPROXY_API_KEYS"):
        listed(proxy, Kind.RUNNING, 50)


def test_a_request_is_cancelled(run: Run, peer: StartPeer) -> None:
    done = {"id": "r/1", "was": "running", "cancelled": True}
    there = peer({LIST + "/r%2F1/cancel": (200, done)})
    result = run("cancel", "r/1", "--url", there.url)
    assert (result.exit_code, result.output) == (0, "cancelled r/1, which was running\n")
    assert there.orders == [(LIST + "/r%2F1/cancel", "application/json", b"{}")]
    result = run("cancel", "r/1", "--url", there.url, "--json")
    assert json.loads(result.output) == [done]


def test_of_several_those_that_can_be_cancelled_are(run: Run, peer: StartPeer) -> None:
    there = peer(
        {
            LIST + "/a/cancel": (409, refusal("This request is over already.", "already_over")),
            LIST + "/b/cancel": (404, refusal("No request of this id is remembered.", "not_found")),
            LIST + "/c/cancel": (200, {"id": "c", "was": "waiting", "cancelled": True}),
        }
    )
    result = run("cancel", "a", "b", "c", "--url", there.url)
    assert result.output == "cancelled c, which was waiting\n"
    assert isinstance(result.exception, NotDone)
    assert str(result.exception) == (
        f"a: {there.url}: this request is over already; b: {there.url}: no request of this id is remembered"
    )
    result = run("cancel", "a", "c", "--url", there.url, "--json")
    assert result.exit_code == 1
    assert [each["cancelled"] for each in json.loads(result.output)] == [False, True]


def test_a_key_without_the_right_is_refused_at_once(run: Run, peer: StartPeer) -> None:
    there = peer({LIST + "/a/cancel": (403, refusal("no", "insufficient_permissions"))})
    result = run("cancel", "a", "b", "--url", there.url)
    assert isinstance(result.exception, NotDone)
    assert "admin rights" in str(result.exception)
    assert len(there.orders) == 1


def test_everything_or_certain_instances_are_aborted(run: Run, peer: StartPeer) -> None:
    there = peer({ABORT: (200, {"cancelled": 1})})
    result = run("abort", "--all", "--url", there.url)
    assert (result.exit_code, result.output) == (0, "1 request cancelled\n")
    result = run("abort", "7", "8", "--url", there.url)
    assert result.output == "1 request on instance 7 cancelled\n1 request on instance 8 cancelled\n"
    assert [json.loads(body) for _, _, body in there.orders] == [
        {"instance": None},
        {"instance": 7},
        {"instance": 8},
    ]
    assert json.loads(run("abort", "--all", "--json", "--url", there.url).output) == {
        "instance": None,
        "cancelled": 1,
    }


@pytest.mark.parametrize("arguments", [(), ("--all", "7")])
def test_all_must_be_meant(run: Run, peer: StartPeer, arguments: tuple[str, ...]) -> None:
    there = peer({ABORT: (200, {"cancelled": 1})})
    assert run("abort", *arguments, "--url", there.url).exit_code == 2
    assert there.orders == []


def test_an_instance_that_is_not_served(run: Run, peer: StartPeer) -> None:
    there = peer({ABORT: (404, refusal("No instance 7 is served here.", "not_found"))})
    result = run("abort", "7", "--url", there.url)
    assert isinstance(result.exception, NotDone)
    assert str(result.exception) == f"{there.url}: no instance 7 is served here"
