"""The client's side of an exchange: leaving at any moment, slow in either direction, too much, another protocol."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Asked, Scene, gathered, settle
from vastproxy.api.errors import request_timeout
from vastproxy.api.exchange import LEFT, Exchange
from vastproxy.api.gathering import GATHER_BYTES
from vastproxy.api.http.request import Request
from vastproxy.api.upload import Upload
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.http1.framing import CHUNKED
from vastproxy.settings.model import ServerSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"
CHAT = b"/v1/chat/completions"
PROMPT = b'{"model":"m","messages":[]}'
STAGES = ["gathering", "opening", "waiting", "answering"]


async def at(scene: Scene, stage: str, *, target: bytes = b"/v1/x", body: bytes = b"part") -> Asked:
    """A request with an unfinished body, in this stage."""
    if stage == "opening":
        scene.tunnels[0].gate.clear()
    asked = await scene.ask(b"POST", target, body=body, complete=False, framing=CHUNKED)
    if stage == "gathering":
        assert scene.streams == []
        return asked
    await gathered()
    if stage == "answering":
        asked.stream.feed(CHUNKS)
    return asked


@pytest.mark.parametrize("target", [CHAT, b"/flush_cache"])
async def test_what_a_client_sent_is_not_kept_with_the_story(scene: Scene, target: bytes) -> None:
    """Stories of a thousand requests are remembered, also of those that were refused: neither a long head nor the key
    in it shall be."""
    headers = [(b"authorization", b"Bearer s3cret"), (b"x-long", b"x" * 60_000)]
    asked = await scene.ask(b"POST", target, body=PROMPT, headers=headers)
    if target == CHAT:
        asked.stream.feed(OK)
    assert asked.client.complete
    [story] = scene.fleet.traces.latest(5)
    kept = gc.get_referents(story)
    assert kept, "nothing is known of it"
    assert not [each for each in kept if isinstance(each, Request | Upload | Exchange)]


async def finished(scene: Scene, stage: str) -> None:
    """What was held back goes on: it must reach nobody."""
    scene.tunnels[0].gate.set()
    await asyncio.sleep(100)
    if stage in ("gathering", "opening"):
        assert scene.streams == []
    else:
        assert [stream.aborted for stream in scene.streams] == [True]
    scene.assert_idle()
    assert len(scene.access.lines) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_that_leaves(scene: Scene, stage: str) -> None:
    """Engine and lease are let go at once, nobody is blamed, and nothing is answered any more."""
    asked = await at(scene, stage)
    calls = list(asked.client.calls)
    asked.exchange.client_left()
    if stage != "opening":
        scene.assert_idle()
    if stage in ("waiting", "answering"):
        assert asked.stream.aborted
    asked.exchange.client_left()
    asked.exchange.client_data(b"more", complete=True)
    asked.exchange.client_failed(request_timeout(1, "body"))
    asked.exchange.client_writable()
    await finished(scene, stage)
    assert asked.client.calls == calls
    assert scene.access.lines[0][0] == LEFT


@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_that_fails(scene: Scene, stage: str) -> None:
    """The rest of its request is malformed or does not come. After the head of an answer that cannot be said."""
    asked = await at(scene, stage)
    asked.exchange.client_failed(request_timeout(60, "body"))
    if stage == "answering":
        assert asked.client.broken
        assert asked.client.body == b"ok"
    else:
        assert (asked.client.status, asked.error, asked.client.complete) == (408, "request_timeout", True)
    await finished(scene, stage)
    assert scene.access.lines[0][0] == (200 if stage == "answering" else 408)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_body_that_grows_over_the_limit(make_scene: Callable[..., Scene], stage: str) -> None:
    scene = make_scene(server=ServerSettings(max_body_bytes=1024))
    asked = await at(scene, stage)
    asked.exchange.client_data(b"x" * 1020, complete=False)
    assert not asked.client.ended
    asked.exchange.client_data(b"x", complete=True)
    if stage == "answering":
        assert asked.client.broken
    else:
        assert (asked.client.status, asked.error) == (413, "request_too_large")
    await finished(scene, stage)


async def test_a_first_piece_over_the_limit(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(server=ServerSettings(max_body_bytes=1024))
    asked = await scene.ask(b"POST", body=b"x" * 1025, complete=False, framing=CHUNKED)
    assert asked.client.status == 413
    assert scene.streams == []


async def test_leaving_when_the_connection_is_just_there_sends_nothing(scene: Scene) -> None:
    """The opening is cancelled in the very step in which it would have succeeded."""
    asked = await at(scene, "opening")
    scene.tunnels[0].gate.set()
    asked.exchange.client_left()
    await settle()
    assert all(stream.is_closing() and not stream.written for stream in scene.streams)
    scene.assert_idle()


async def test_leaving_during_the_second_opening(scene: Scene) -> None:
    """The first backend was passed by. The opening that is given up is the one that is under way."""
    scene.tunnels[0].refuse()
    scene.tunnels[1].gate.clear()
    asked = await scene.ask()
    assert scene.tunnels[1].waiting == 1
    asked.exchange.client_left()
    await settle()
    scene.assert_idle(failures=1)
    scene.tunnels[1].gate.set()
    await settle()
    assert scene.streams == []
    assert scene.access.lines == [(LEFT, 2, 0, 0, 2)]


# ── SGLang ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("answering", [False, True])
async def test_sglang_is_told_before_its_stream_is_closed(
    make_scene: Callable[..., Scene], answering: bool
) -> None:
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    stream = asked.stream
    if answering:
        stream.feed(CHUNKS)
    rid = stream.written.partition(b'"rid":"')[2].partition(b'"')[0]
    asked.exchange.client_left()
    assert not stream.is_closing()
    scene.assert_idle()
    await settle()
    telling = asked.stream
    assert telling.written.startswith(b"POST /abort_request HTTP/1.1\r\n")
    assert rid in telling.written
    stream.feed(b"2\r\nok\r\n" if answering else CHUNKS)  # nobody hears it
    telling.feed(OK)
    await settle()
    assert stream.aborted
    scene.assert_idle()


async def test_an_sglang_without_a_tunnel_is_told_nothing(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await scene.ask(b"POST", CHAT, body=PROMPT)
    scene.tunnels[0].is_alive = False
    asked.exchange.client_left()
    assert asked.stream.aborted
    await settle()
    assert len(scene.streams) == 1


async def test_a_body_that_carries_no_id_is_ended_by_its_stream(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await scene.ask(b"POST", CHAT, body=b'{"n":2}')
    asked.exchange.client_left()
    assert asked.stream.aborted


# ── who is slow ────────────────────────────────────────────────────────────────────────────────


async def test_a_small_body_leaves_in_one_piece(scene: Scene) -> None:
    asked = await at(scene, "gathering")
    asked.exchange.client_data(b"-and", complete=False)
    asked.exchange.client_data(b"-rest", complete=True)
    await settle()
    assert asked.stream.written.endswith(b"content-length: 13\r\n\r\npart-and-rest")
    asked.exchange.client_left()


@pytest.mark.parametrize("first", [0, GATHER_BYTES - 1, GATHER_BYTES])
async def test_a_large_body_is_not_gathered(scene: Scene, first: int) -> None:
    asked = await scene.ask(b"POST", body=b"x" * first, complete=False, framing=CHUNKED)
    if first < GATHER_BYTES:
        asked.exchange.client_data(b"x" * (GATHER_BYTES - first), complete=False)
    await settle()
    assert len(scene.streams) == 1
    asked.exchange.client_left()


async def test_a_client_that_does_not_read_stops_its_engine(scene: Scene) -> None:
    asked = await scene.ask()
    asked.client.on_send = lambda: setattr(asked.client, "write_paused", True)
    asked.stream.feed(CHUNKS)
    assert not asked.stream.reading
    asked.client.write_paused = False
    asked.exchange.client_writable()
    assert asked.stream.reading
    asked.stream.feed(b"2\r\nok\r\n")
    assert not asked.stream.reading
    await asyncio.sleep(3600)  # that is not the engine's silence
    assert not asked.client.ended
    asked.client.write_paused = False
    asked.exchange.client_writable()
    asked.stream.feed(b"0\r\n\r\n")
    assert asked.client.complete
    assert asked.stream.reading
    scene.assert_idle()


async def test_an_engine_that_does_not_read_stops_its_client(scene: Scene) -> None:
    asked = await at(scene, "waiting")
    assert asked.client.reading
    asked.stream.fill()
    asked.exchange.client_data(b"more", complete=False)
    assert not asked.client.reading
    asked.stream.drain()
    assert asked.client.reading
    asked.stream.fill()
    asked.exchange.client_data(b"last", complete=True)
    assert asked.client.reading  # there is nothing left that could be stopped
    asked.stream.feed(OK)
    assert asked.client.complete
