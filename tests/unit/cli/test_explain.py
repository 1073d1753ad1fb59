"""`vastproxy explain`, asked of an HTTP server that answers as a proxy does."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.helpers.deaf import deaf_port
from tests.helpers.stories import lease
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.asking import NoProxyThere
from vastproxy.cli.explain import NotTold, ask, explain
from vastproxy.services.dispatch.claim import MAX_ATTEMPTS, Claim
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.services.traces import Traces

StartPeer = Callable[[Answers], Peer]
ID = "a/b+c=1@x"
PATH = "/vastproxy/v1/requests/a%2Fb%2Bc%3D1%40x"


@pytest.fixture
def explained(run: Run) -> Run:
    """The command by itself, in the clean home that `run` makes."""
    app = typer.Typer()
    app.command()(explain)

    def command(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(app, arguments, env=environ)

    return command


def tell(claim: Claim, now: float) -> dict[str, Any]:
    return Traces(clock=lambda: now, wall_clock=lambda: 1_699_999_990.0 + now).tell(claim)


def begun() -> Claim:
    return Claim(10.0, ID.encode(), b"POST", b"/v1/chat/completions")


def story() -> dict[str, Any]:
    """What a proxy tells of a request that the second backend answered."""
    claim = begun()
    claim.model, claim.stream, claim.hint = "Qwen/Qwen3-32B", True, Hint(session=1)
    claim.asker, claim.priority, claim.queued_s = "2", Priority.BATCH, 0.5
    first = lease(101, 10.5, "fewest requests for its speed", ((102, 2.0), (101, 1.53219)))
    first.end("failed", 10.6, "connection \x1b[31mrefused")
    second = lease(102, 10.6, "the only one left", ((102, 2.0),))
    second.path, second.connected_at, second.first_byte_at = "direct", 10.61, 12.0
    second.end("answered", 13.0)
    claim.leases, claim.lease = [first, second], second
    claim.first_byte_at, claim.ended_at, claim.status = 12.0, 13.0, 200
    claim.received_bytes, claim.sent_bytes = 70, 900
    return tell(claim, now=99.0)


def answers(content: object, status: int = 200) -> Answers:
    return {PATH: (status, content)}


def test_the_whole_story(explained: Run, peer: StartPeer) -> None:
    there = peer(answers(story()))
    result = explained(ID, there.url, TZ="UTC")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"200  POST /v1/chat/completions  request {ID}",
        "  model Qwen/Qwen3-32B, as a stream, key 2, priority batch, tied to its place by session",
        *[line for line in result.output.splitlines() if line.startswith("  began 2023-11-1")],
        "  1. instance 101, port 8000: failed after 100 ms",
        "     connection \N{REPLACEMENT CHARACTER}[31mrefused",
        "     chosen: fewest requests for its speed",
        "     scores: 101:8000 1.532, 102:8000 2",
        "  2. instance 102, port 8000: answered after 2.40 s",
        "     chosen: the only one left",
        "     scores: 102:8000 2",
        "     over the direct path, connected after 10 ms, first byte after 1.40 s",
    ]
    assert (
        ", waited 500 ms for a place, first byte after 2.00 s, 3.00 s in all, 70 bytes in, 900 out"
        in result.output
    )


def test_json_is_what_the_proxy_told(explained: Run, peer: StartPeer) -> None:
    result = explained("--json", ID, peer(answers(story())).url)
    assert json.loads(result.output) == story()
    assert result.exit_code == 0


def test_a_request_that_runs(explained: Run, peer: StartPeer) -> None:
    claim = begun()
    claim.lease = lease(101, 10.0, "", [(101 + at, float(at)) for at in range(20)])
    claim.leases = [claim.lease]
    claim.lease.reused = True
    output = explained(ID, peer(answers(tell(claim, 11.0))).url).output
    assert output.startswith("running  POST")
    assert "names no model" in output
    assert "1.00 s so far" in output
    assert "1. instance 101, port 8000: under way" in output
    assert "108:8000 7, and 12 more" in output
    assert "on a connection that had served before" in output


def test_a_request_that_waits(explained: Run, peer: StartPeer) -> None:
    """Before its first attempt, or after one that failed."""
    claim = begun()
    output = explained(ID, peer(answers(tell(claim, 11.0))).url).output
    assert output.startswith("waiting  POST")
    assert "1.00 s so far" in output
    assert "  waits for a place\n" in output
    assert "no attempt was made" not in output
    claim.lease = lease(101, 10.0)
    claim.leases = [claim.lease]
    claim.lease.end("failed", 10.5, "refused")
    output = explained(ID, peer(answers(tell(claim, 11.0))).url).output
    assert output.startswith("waiting  POST")
    assert "  waits for a place\n  1. instance 101, port 8000: failed after 500 ms\n" in output


def test_a_request_that_nobody_was_asked_to_serve(explained: Run, peer: StartPeer) -> None:
    claim = begun()
    claim.model, claim.stream, claim.status, claim.ended_at = "m", False, 503, 40.0
    output = explained(ID, peer(answers(tell(claim, 50.0))).url).output
    assert output.startswith("503  POST")
    assert "in one piece" in output
    assert "no attempt was made" in output


def test_a_client_that_left_after_many_attempts(explained: Run, peer: StartPeer) -> None:
    claim = begun()
    for at in range(40):
        claim.leases.append(lease(101, 10.0 + at))
        claim.leases[-1].end("failed", 10.5 + at, "x")
        if len(claim.leases) > MAX_ATTEMPTS:
            claim.leave_out()
    claim.status, claim.ended_at = 499, 60.0
    output = explained(ID, peer(answers(tell(claim, 61.0))).url).output
    assert output.startswith("the client left")
    assert "24 more attempts in the middle are not remembered" in output


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"attempts": 7, "status": "x", "began_unix": 1e300, "queue_ms": "x", "stream": 1},
        {"attempts": [7, {}, {"candidates": [1, {"score": "x"}, {"score": 1}]}], "state": 3, "status": None},
        {
            "attempts": [{"candidates": 1, "started_ms": True, "ended_ms": 2, "outcome": ["x"]}],
            "began_unix": -1,
        },
    ],
)
def test_what_another_version_tells_does_no_harm(explained: Run, peer: StartPeer, content: object) -> None:
    result = explained(ID, peer(answers(content)).url)
    assert result.exit_code == 0
    assert result.exception is None


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, f"remembers no request {ID}: it keeps the last ones only"),
        (401, "only to holders of a key: set VASTPROXY_API_KEYS"),
        (403, "only to holders of a key"),
        (503, f"does not explain request {ID} (HTTP 503)"),
    ],
)
def test_what_it_does_not_tell(explained: Run, peer: StartPeer, status: int, line: str) -> None:
    there = peer(answers({"error": {"message": "no"}}, status))
    error = explained(ID, there.url).exception
    assert isinstance(error, NotTold)
    assert error.exit_code == 1
    assert str(error).startswith(there.url)
    assert line in str(error)


@pytest.mark.parametrize("answer", [(200, "<html>"), (404, "not found"), (200, [1]), (302, "")])
def test_something_else_answers(explained: Run, peer: StartPeer, answer: tuple[int, object]) -> None:
    error = explained(ID, peer({PATH: answer}).url).exception
    assert isinstance(error, NoProxyThere)


def test_the_first_inbound_key_is_sent(explained: Run, peer: StartPeer) -> None:
    there = peer(answers(story()))
    explained(ID, there.url, VASTPROXY_API_KEYS="env:ONE,two", ONE="first")
    assert there.seen == [(PATH, "Bearer first")]


def test_the_default_is_where_the_settings_listen(explained: Run, peer: StartPeer) -> None:
    port = peer(answers(story())).url.rpartition(":")[2]
    assert explained(ID, LISTEN_ADDR=f"127.0.0.1:{port}").exit_code == 0


def test_nothing_answers() -> None:
    with deaf_port() as port, pytest.raises(NoProxyThere, match="nothing answers"):
        ask(f"http://127.0.0.1:{port}", ID, key=None)
