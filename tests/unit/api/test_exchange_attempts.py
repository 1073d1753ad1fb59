"""Attempts of an exchange: what is tried again, where, and what is not; and who is told."""

import asyncio
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Asked, Scene, gathered, settle
from vastproxy.api.upload import REPLAY_LIMIT_BYTES
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.settings.model import UpstreamSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"b\r\ndata: one\n\n\r\n"


async def pooled(scene: Scene) -> None:
    """The first backend has a connection that has served."""
    asked = await scene.ask()
    asked.stream.feed(OK)
    assert scene.backends[0].ways[0].idle == 1
    scene.access.lines.clear()


# ── elsewhere ──────────────────────────────────────────────────────────────────────────────────


async def test_who_cannot_be_reached_is_passed_by(scene: Scene) -> None:
    scene.tunnels[0].refuse()
    asked = await scene.ask(b"POST", body=b"hello")
    assert asked.stream.written.endswith(b"content-length: 5\r\n\r\nhello")
    assert b"Bearer token-2" in asked.stream.written
    asked.stream.feed(OK)
    assert (asked.client.status, asked.client.header(b"x-vastproxy-instance")) == (200, b"2")
    assert [backend.failures for backend in scene.backends] == [1, 0]
    scene.assert_idle(failures=1)
    assert scene.access.lines == [(200, 2, 2, 5, 2)]


async def test_nobody_is_asked_twice(scene: Scene) -> None:
    for tunnel in scene.tunnels:
        tunnel.refuse()
    asked = await scene.ask()
    assert (asked.client.status, asked.error) == (503, "no_backend_available")
    scene.assert_idle(failures=2)


async def test_attempts_are_limited(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=3, upstream=UpstreamSettings(max_attempts=2))
    for tunnel in scene.tunnels:
        tunnel.refuse()
    asked = await scene.ask()
    assert (asked.client.status, asked.error) == (502, "backend_unreachable")
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle(failures=2)


async def test_an_opening_that_takes_too_long_is_given_up(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(upstream=UpstreamSettings(connect_timeout_s=5))
    scene.tunnels[0].gate.clear()
    asked = await scene.ask()
    await asyncio.sleep(5.1)
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle(failures=1)


async def test_a_body_that_came_meanwhile_goes_to_whoever_is_reached(scene: Scene) -> None:
    """More than is held of a request that is on its way, because it is not on its way yet."""
    scene.tunnels[0].gate.clear()
    asked = await scene.ask(b"POST", body=b"a", complete=False, framing=CHUNKED)
    await gathered()
    asked.exchange.client_data(b"b" * (REPLAY_LIMIT_BYTES - 2), complete=False)
    assert asked.client.reading
    asked.exchange.client_data(b"c", complete=False)
    assert not asked.client.reading
    scene.tunnels[0].refuse()
    scene.tunnels[0].gate.set()
    await settle()
    assert asked.client.reading
    assert asked.stream.written.endswith(b"bc\r\n")
    asked.exchange.client_data(b"d", complete=True)
    assert asked.stream.written.endswith(b"1\r\nd\r\n0\r\n\r\n")
    asked.stream.feed(OK)
    assert asked.client.complete


# ── the same backend ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_a_kept_connection_that_died_is_replaced(scene: Scene, how: str) -> None:
    """The engine closed it when the request was on its way: once more, on a new one, and nobody is blamed."""
    await pooled(scene)
    asked = await scene.ask(b"POST", body=b"hello")
    first = asked.stream
    if how == "eof":
        first.feed_eof()
    first.lose(ConnectionResetError() if how == "reset" else None)
    await settle()
    second = asked.stream
    assert second is not first
    assert first.written.endswith(second.written)
    assert second.written.endswith(b"\r\n\r\nhello")
    second.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"1"
    scene.assert_idle()
    assert scene.access.lines == [(200, 2, 2, 5, 1)]


async def test_a_new_connection_that_dies_is_not_tried_again(scene: Scene) -> None:
    """The engine may have begun. Nobody sends a second copy."""
    asked = await scene.ask()
    asked.stream.lose()
    assert (asked.client.status, asked.error) == (502, "backend_interrupted")
    await settle()
    assert len(scene.streams) == 1
    scene.assert_idle(failures=1)


async def test_the_second_one_that_dies_is_the_last(scene: Scene) -> None:
    await pooled(scene)
    asked = await scene.ask()
    for _ in range(2):
        asked.stream.lose()
        await settle()
    assert (asked.client.status, asked.error) == (502, "backend_interrupted")
    scene.assert_idle(failures=1)


async def test_a_kept_connection_that_began_an_answer_is_not_replaced(scene: Scene) -> None:
    await pooled(scene)
    asked = await scene.ask()
    asked.stream.feed(b"HTTP")
    asked.stream.lose()
    assert asked.client.status == 502
    assert len(scene.streams) == 1


async def test_what_is_too_long_to_be_held_is_not_sent_again(scene: Scene) -> None:
    await pooled(scene)
    asked = await scene.ask(b"POST", body=b"a", complete=False, framing=CHUNKED)
    await gathered()
    asked.exchange.client_data(b"b" * REPLAY_LIMIT_BYTES, complete=False)
    asked.stream.lose()
    assert (asked.client.status, asked.error) == (502, "backend_interrupted")
    await settle()
    assert len(scene.streams) == 1


async def test_a_request_that_is_sent_again_goes_on_from_where_it_is(scene: Scene) -> None:
    await pooled(scene)
    asked = await scene.ask(b"POST", body=b"one", complete=False, framing=Framing(chunked=False, length=11))
    await gathered()
    asked.exchange.client_data(b"two", complete=False)
    asked.stream.lose()
    asked.exchange.client_data(b"three", complete=True)
    await settle()
    assert asked.stream.written.endswith(b"content-length: 11\r\n\r\nonetwothree")
    asked.stream.feed(OK)
    assert asked.client.complete
    scene.assert_idle()


async def test_a_connection_that_ends_when_it_is_opened_has_been_sent_nothing(scene: Scene) -> None:
    """So the request goes elsewhere, at once."""
    scene.tunnels[0].hangs_up = True
    asked = await scene.ask()
    asked.stream.feed(OK)
    assert scene.streams[0].written == b""
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle(failures=1)


# ── too slow, or no HTTP ───────────────────────────────────────────────────────────────────────


async def test_garbage_is_a_502(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(b"220 mail.example ESMTP\r\n")
    assert (asked.client.status, asked.error) == (502, "backend_protocol_error")
    assert asked.stream.aborted
    scene.assert_idle(failures=1)


async def test_no_headers_in_time_is_a_504(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(upstream=UpstreamSettings(headers_timeout_s=10))
    asked = await scene.ask()
    await asyncio.sleep(10.1)
    assert (asked.client.status, asked.error) == (504, "backend_timeout")
    assert asked.stream.aborted
    scene.assert_idle(failures=1)


@pytest.mark.parametrize("when", ["opening", "waiting", "answering"])
async def test_the_limit_for_the_whole(make_scene: Callable[..., Scene], when: str) -> None:
    """Whatever it is spent on. The backend is not to blame for a limit of ours."""
    scene = make_scene(upstream=UpstreamSettings(total_timeout_s=8))
    if when == "opening":
        scene.tunnels[0].gate.clear()
    asked = await scene.ask()
    if when == "answering":
        asked.stream.feed(SSE + EVENT)
    await asyncio.sleep(8.1)
    assert asked.error == "backend_timeout"
    assert b"upstream.total_timeout_s" in asked.client.body
    if when == "answering":
        assert (asked.client.status, asked.client.broken) == (200, True)
    else:
        assert (asked.client.status, asked.client.complete) == (504, True)
    if when != "opening":
        assert asked.stream.aborted
    scene.assert_idle()


async def test_the_limit_for_the_whole_ends_with_the_answer(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(upstream=UpstreamSettings(total_timeout_s=8))
    asked = await scene.ask()
    asked.stream.feed(OK)
    await asyncio.sleep(100)
    assert len(scene.access.lines) == 1


async def test_the_limit_for_the_whole_covers_all_attempts(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(upstream=UpstreamSettings(total_timeout_s=8, connect_timeout_s=5))
    for tunnel in scene.tunnels:
        tunnel.gate.clear()
    asked = await scene.ask()
    await asyncio.sleep(8.1)
    assert (asked.client.status, asked.error) == (504, "backend_timeout")
    scene.assert_idle(failures=1)


# ── answers that break off ─────────────────────────────────────────────────────────────────────


async def broken(scene: Scene, head: bytes, *pieces: bytes) -> Asked:
    """An answer that loses its connection after so much."""
    asked = await scene.ask()
    asked.stream.feed(head)
    for piece in pieces:
        asked.stream.feed(piece)
    asked.stream.lose()
    assert asked.client.broken
    assert not asked.client.complete
    scene.assert_idle(failures=1)
    assert scene.access.lines[-1][0] == asked.client.status
    return asked


@pytest.mark.parametrize(
    ("pieces", "gap"),
    [
        ([], b""),
        ([b"data: one\n\n"], b""),
        ([b"data: one\r\n\r\n"], b""),
        ([b"data: one\n"], b"\n\n"),
        ([b"data: one\n\n", b"data: tw"], b"\n\n"),
        ([b"data: one", b"\n\n"], b""),
        ([b"data: one\n", b"\n"], b"\n\n"),  # a blank line too many means nothing
    ],
)
async def test_a_stream_of_events_says_why_it_ends(scene: Scene, pieces: list[bytes], gap: bytes) -> None:
    """An event that was cut in the middle is ended first, so that ours is read as one."""
    asked = await broken(scene, SSE, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
    before, event = asked.client.body.split(b"event: error\ndata: ")
    assert before == b"".join(pieces) + gap
    assert asked.error == "backend_interrupted"
    assert event.endswith(b"}\n\n")


@pytest.mark.parametrize(
    "fields",
    [
        b"content-type: text/plain\r\n",
        b"content-type: text/event-stream\r\ncontent-encoding: gzip\r\n",
        b"",
    ],
)
async def test_other_answers_just_break_off(scene: Scene, fields: bytes) -> None:
    asked = await broken(
        scene, b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n2\r\nok\r\n" % fields
    )
    assert asked.client.body == b"ok"


async def test_a_stream_of_announced_length_gets_no_byte_more(scene: Scene) -> None:
    asked = await broken(
        scene, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: a\n\n"
    )
    assert asked.client.body == b"data: a\n\n"


async def test_a_malformed_rest_breaks_the_answer_off(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(SSE + EVENT)
    asked.stream.feed(b"xyz\r\n")
    assert asked.client.broken
    assert asked.error == "backend_protocol_error"
    scene.assert_idle(failures=1)


async def test_silence_breaks_the_answer_off(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(upstream=UpstreamSettings(idle_timeout_s=10))
    asked = await scene.ask()
    asked.stream.feed(SSE + EVENT)
    await asyncio.sleep(10.1)
    assert asked.client.broken
    assert asked.error == "backend_timeout"
    assert asked.stream.aborted


async def test_a_dead_sglang_is_not_told_to_abort(make_scene: Callable[..., Scene]) -> None:
    """Its stream has ended, so it has ended the request."""
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await scene.ask(b"POST", b"/v1/chat/completions", body=b'{"model":"m"}')
    assert b'"rid":"' in asked.stream.written
    asked.stream.lose()
    await settle()
    assert len(scene.streams) == 1
    assert asked.client.status == 502
