"""`vastproxy drain`, asked of an HTTP server that answers as a proxy does."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.deaf import deaf_port
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.asking import NoProxyThere, asking
from vastproxy.cli.drain import LOOK_S, NotDrained, order, wait_until_idle
from vastproxy.errors import VastproxyError

StartPeer = Callable[[Answers], Peer]
DRAIN = "/vastproxy/v1/backends/17/drain"
UNDRAIN = "/vastproxy/v1/backends/17/undrain"
BACKENDS = "/vastproxy/v1/backends"


def row(in_flight: object = 0, state: str = "draining", id: int = 17) -> dict[str, Any]:
    return {"id": id, "state": state, "in_flight": in_flight}


@pytest.mark.parametrize(
    ("in_flight", "line"),
    [
        (0, "instance 17 is drained; none of its requests runs"),
        (1, "instance 17 gets no new requests; 1 still runs"),
        (12, "instance 17 gets no new requests; 12 still run"),
    ],
)
def test_it_says_what_still_runs(run: Run, peer: StartPeer, in_flight: int, line: str) -> None:
    there = peer({DRAIN: (200, row(in_flight))})
    result = run("drain", "17", there.url)
    assert (result.exit_code, result.output) == (0, line + "\n")
    assert there.orders == [(DRAIN, "application/json", b"{}")]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("unhealthy", "instance 17 is unhealthy; it serves after a good probe"),
        ("healthy", "instance 17 is healthy"),
    ],
)
def test_it_can_be_taken_back(run: Run, peer: StartPeer, state: str, line: str) -> None:
    there = peer({UNDRAIN: (200, row(3, state))})
    result = run("drain", "17", there.url, "--undo")
    assert (result.exit_code, result.output) == (0, line + "\n")
    assert [path for path, _, _ in there.orders] == [UNDRAIN]


def test_json_is_what_the_proxy_answered(run: Run, peer: StartPeer) -> None:
    answer = {**row(2), "models": ["ü"], "error": None}
    result = run("drain", "17", peer({DRAIN: (200, answer)}).url, "--json")
    assert (result.exit_code, json.loads(result.output)) == (0, answer)


def test_nobody_waits_for_what_does_not_run(run: Run, peer: StartPeer) -> None:
    there = peer({DRAIN: (200, row(0))})
    assert (
        run("drain", "17", there.url, "--wait").output
        == "instance 17 is drained; none of its requests runs\n"
    )
    assert [path for path, _ in there.seen] == [DRAIN]


def test_it_waits_until_the_last_one_has_ended(run: Run, peer: StartPeer) -> None:
    """By the command itself, which looks once a second."""
    there = peer({DRAIN: (200, row(1)), BACKENDS: (200, {"backends": [row(5, id=16), row(0)]})})
    result = run("drain", "17", there.url, "--wait", "--json")
    assert (result.exit_code, json.loads(result.output)) == (0, row(0))
    assert [path for path, _ in there.seen] == [DRAIN, BACKENDS]


def waited(
    there: Peer, *listings: tuple[int, object], first: object = 2
) -> tuple[dict[str, Any], list[float]]:
    """The outcome of waiting while the proxy lists this, one after the other."""
    following, slept = iter(listings), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        there.answers[BACKENDS] = next(following)

    with asking(there.url, key=None) as proxy:
        return wait_until_idle(proxy, 17, row(first), sleep=sleep), slept


def test_it_looks_again_and_again(peer: StartPeer) -> None:
    listings = [(200, {"backends": [row(left)]}) for left in (2, 1, 1, 0)]
    assert waited(peer({}), *listings) == (row(0), [LOOK_S] * 4)


@pytest.mark.parametrize("rows", [[], [row(3, id=16)], ["x", None, {}]])
def test_an_instance_that_is_gone_runs_nothing(peer: StartPeer, rows: list[object]) -> None:
    assert waited(peer({}), (200, {"backends": rows})) == (row(0), [LOOK_S])


def test_who_lets_it_serve_again_ends_the_wait(peer: StartPeer) -> None:
    """Its requests would never be the last ones."""
    with pytest.raises(NotDrained, match="instance 17 is not drained any more"):
        waited(peer({}), (200, {"backends": [row(2)]}), (200, {"backends": [row(9, "healthy")]}))


@pytest.mark.parametrize(
    "listing", [(401, {"error": {}}), (500, {"error": {}}), (200, {}), (200, {"backends": "x"})]
)
def test_what_is_not_told_is_not_taken_for_the_end(peer: StartPeer, listing: tuple[int, object]) -> None:
    with pytest.raises(NotDrained, match=rf"how many requests run \(HTTP {listing[0]}\)"):
        waited(peer({}), listing)


def test_a_proxy_that_goes_meanwhile(peer: StartPeer) -> None:
    with pytest.raises(NoProxyThere):
        waited(peer({}), (200, "<html>"))


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (404, "serves no instance 17; `vastproxy status` lists those it does"),
        (401, "takes orders only from holders of a key: set VASTPROXY_API_KEYS"),
        (403, "takes orders only from holders of a key"),
        (415, "refused (HTTP 415)"),
        (500, "refused (HTTP 500)"),
    ],
)
@pytest.mark.parametrize("path", [DRAIN, UNDRAIN])
def test_what_it_does_not_do(peer: StartPeer, path: str, status: int, line: str) -> None:
    there = peer({path: (status, {"error": {"message": "no"}})})
    with asking(there.url, key=None) as proxy, pytest.raises(NotDrained) as refused:
        order(proxy, 17, undo=path == UNDRAIN)
    assert str(refused.value).startswith(there.url)
    assert line in str(refused.value)
    assert refused.value.exit_code == 1


def failure(run: Run, *arguments: str, **environ: str) -> VastproxyError:
    error = run("drain", *arguments, **environ).exception
    assert isinstance(error, VastproxyError)
    assert "\n" not in str(error)
    return error


def test_an_instance_that_is_not_served(run: Run, peer: StartPeer) -> None:
    error = failure(run, "17", peer({DRAIN: (404, {"error": {}})}).url)
    assert isinstance(error, NotDrained)
    assert error.exit_code == 1


@pytest.mark.parametrize("answer", [(200, "<html>"), (404, "not found"), (200, [1]), (302, "")])
def test_something_else_answers(run: Run, peer: StartPeer, answer: tuple[int, object]) -> None:
    """A redirect is not followed: the key, and the order, stay where they were meant to go."""
    assert isinstance(failure(run, "17", peer({DRAIN: answer}).url), NoProxyThere)


def test_nothing_answers(run: Run) -> None:
    with deaf_port() as port:
        assert "nothing answers" in str(failure(run, "17", f"127.0.0.1:{port}"))


def test_the_first_inbound_key_is_sent(run: Run, peer: StartPeer) -> None:
    there = peer({DRAIN: (200, row())})
    run("drain", "17", there.url, VASTPROXY_API_KEYS="env:ONE,two", ONE="first")
    assert there.seen == [(DRAIN, "Bearer first")]


def test_the_default_is_where_the_settings_listen(run: Run, peer: StartPeer) -> None:
    port = peer({DRAIN: (200, row())}).url.rpartition(":")[2]
    assert run("drain", "17", LISTEN_ADDR=f"127.0.0.1:{port}").exit_code == 0


@pytest.mark.parametrize("content", [{}, {"state": "\x1b[31m", "in_flight": "\x1b[31m"}, {"in_flight": [1]}])
@pytest.mark.parametrize("undo", [[], ["--undo"]])
def test_what_another_version_answers_does_no_harm(
    run: Run, peer: StartPeer, content: object, undo: list[str]
) -> None:
    result = run("drain", "17", peer({DRAIN: (200, content), UNDRAIN: (200, content)}).url, *undo)
    assert (result.exit_code, result.exception) == (0, None)
    assert "\x1b" not in result.output


@pytest.mark.parametrize("arguments", [[], ["x"], ["0"], ["-1"], ["1.5"], ["17", "--undo", "--wait"]])
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    assert run("drain", *arguments).exit_code == 2


def test_the_help_tells_of_both_commands(run: Run) -> None:
    output = run("--help").output
    assert "\n  drain " in output
    assert "\n  explain " in output
    assert "vastproxy drain 1234567" in output
    assert "vastproxy explain 5f1c0e9a2b3d00000001" in output
    drain, explain = run("drain", "--help").output, run("explain", "--help").output
    assert all(word in drain for word in ("ID", "--undo", "--wait", "--json", "--config"))
    assert all(word in explain for word in ("REQUEST_ID", "--json", "--config"))
