"""A request that is cancelled by order, wherever it stands: engine and client are told, and nobody is blamed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.exchanging import Asked, Scene, gathered, settle
from vastproxy.api.attempts import Attempts
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.errors import Cancelled
from vastproxy.services.http1.framing import CHUNKED
from vastproxy.services.traces import state_of
from vastproxy.settings.admission import AdmissionSettings, QueueSettings

pytestmark = pytest.mark.virtual_time

CHAT = b"/v1/chat/completions"
PROMPT = b'{"model":"m","messages":[]}'
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HALF = EVENTS + b"a\r\ndata: {}\n\n\r\n"
WHY = Cancelled("the request was cancelled by the operator")


def claim_of(scene: Scene) -> Attempts:
    found = scene.fleet.traces.find(b"r1")
    assert isinstance(found, Attempts)
    return found


def cancel(scene: Scene) -> str:
    """Returns how it was."""
    claim = claim_of(scene)
    was = state_of(claim)
    claim.cancel(WHY)
    return was


def error_of(body: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(body)["error"]
    return told


def assert_refused(asked: Asked) -> None:
    assert (asked.client.status, asked.client.complete) == (503, True)
    assert error_of(asked.client.body) == {
        "message": "The request was cancelled by the operator.",
        "type": "server_error",
        "code": "cancelled",
        "param": None,
    }
    assert asked.client.header(b"x-should-retry") == b"false", "official clients would ask again"
    assert asked.client.header(b"retry-after") is None


async def assert_over(scene: Scene, status: int = 503) -> None:
    """Nothing comes of what is still under way; one line in the log; nobody is blamed."""
    for tunnel in scene.tunnels:
        tunnel.gate.set()
    await asyncio.sleep(100)
    scene.assert_idle()
    assert [line[0] for line in scene.access.lines] == [status]
    story = scene.fleet.traces.tell(scene.fleet.traces.latest(1)[0])
    assert story["state"] == "done"
    assert scene.fleet.traces.under_way() == []


async def test_while_its_body_is_gathered(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=b"part", complete=False, framing=CHUNKED)
    assert cancel(scene) == "waiting"
    assert_refused(asked)
    asked.exchange.client_data(b"more", complete=True)
    await assert_over(scene)
    assert scene.streams == []


async def test_while_it_waits_for_a_place(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(
        backends=1,
        admission=AdmissionSettings(max_in_flight_per_backend=1),
        queue=QueueSettings(max_wait_s=10),
    )
    first = await scene.ask()
    waits = await scene.ask(b"POST", CHAT, body=PROMPT)
    assert scene.fleet.dispatcher.waiting == 1
    assert cancel(scene) == "waiting"
    assert_refused(waits)
    assert scene.fleet.dispatcher.waiting == 0
    first.stream.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    await settle()
    assert first.client.status == 204
    assert len(scene.streams) == 1, "it never reached an engine"
    scene.assert_idle()


async def test_while_a_connection_is_opened(scene: Scene) -> None:
    scene.tunnels[0].gate.clear()
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    assert cancel(scene) == "running"
    assert_refused(asked)
    await assert_over(scene)
    assert scene.streams == []


async def test_before_the_first_byte(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    assert cancel(scene) == "running"
    assert_refused(asked)
    assert asked.stream.aborted
    attempt = scene.fleet.traces.tell(claim_of(scene))["attempts"][0]
    assert (attempt["outcome"], attempt["error"]) == ("cancelled", str(WHY))
    await assert_over(scene)


async def test_in_the_middle_of_a_stream(scene: Scene) -> None:
    """What has been sent cannot be taken back: an event says what happened, and the connection breaks."""
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    asked.stream.feed(HALF)
    cancel(scene)
    assert asked.client.status == 200
    before, _, event = asked.client.body.partition(b"event: error\ndata: ")
    assert before == b"data: {}\n\n"
    assert error_of(event)["code"] == "cancelled"
    assert asked.client.broken
    assert asked.stream.aborted
    assert claim_of(scene).error_code == "cancelled"
    await assert_over(scene, 200)


async def test_an_event_that_is_cut_is_ended_first(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    asked.stream.feed(EVENTS + b"7\r\ndata: {\r\n")
    cancel(scene)
    assert asked.client.body.startswith(b"data: {\n\nevent: error\n")


async def test_an_answer_of_an_announced_length_only_breaks(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    cancel(scene)
    assert (asked.client.body, asked.client.broken) == (b"half", True)
    await assert_over(scene, 200)


async def test_a_pipe(scene: Scene) -> None:
    asked = await scene.ask(headers=[(b"upgrade", b"websocket")], upgrade=b"websocket")
    asked.stream.feed(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    )
    assert cancel(scene) == "running"
    assert asked.client.broken
    assert asked.stream.aborted
    await assert_over(scene, 101)


async def test_while_it_waits_for_another_place_after_a_failure(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=1, queue=QueueSettings(max_wait_s=10))
    scene.fleet.expecting = True
    scene.tunnels[0].refuse()
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    assert cancel(scene) == "waiting"
    assert_refused(asked)
    attempt = scene.fleet.traces.tell(claim_of(scene))["attempts"][0]
    assert attempt["outcome"] == "failed", "that it had failed before counts more"
    scene.assert_idle(failures=1)


@pytest.mark.parametrize("answering", [False, True])
async def test_sglang_is_told_before_its_stream_is_closed(
    make_scene: Callable[..., Scene], answering: bool
) -> None:
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    stream = asked.stream
    if answering:
        stream.feed(HALF)
    rid = stream.written.partition(b'"rid":"')[2].partition(b'"')[0]
    cancel(scene)
    scene.assert_idle()
    await settle()
    assert asked.stream.written.startswith(b"POST /abort_request HTTP/1.1\r\n")
    assert rid in asked.stream.written
    assert not stream.is_closing()
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    await settle()
    assert stream.aborted


async def test_what_comes_after_it_reaches_nobody(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=b"part", complete=False, framing=CHUNKED)
    await gathered()
    cancel(scene)
    calls = list(asked.client.calls)
    asked.exchange.client_data(b"more", complete=True)
    asked.exchange.client_left()
    asked.exchange.client_writable()
    assert asked.client.calls == calls
    await assert_over(scene)
