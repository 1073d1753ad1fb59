"""Streams of events: each piece goes out when it comes in, byte for byte, and an untimely end is told."""

import asyncio
import gzip
import json
import socket
import statistics
import struct
from collections.abc import Sequence

import pytest

from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, next_request, until
from tests.helpers.talk import Reply, Talk, ask, get, post
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.settings.model import UpstreamSettings

pytestmark = BOTH_LOOPS

CHUNKED = b"transfer-encoding: chunked\r\n"


def head(*lines: bytes, kind: bytes = b"text/event-stream; charset=utf-8", frame: bytes = CHUNKED) -> bytes:
    more = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n" % (kind, frame, more)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Events:
    """An engine whose stream is given piece by piece by the test."""

    def __init__(self, head: bytes = head()) -> None:
        self._head = head
        self._begun = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        self._writer = writer
        writer.write(self._head)
        self._begun.set()
        await writer.wait_closed()

    async def begun(self) -> None:
        await self._begun.wait()

    def send(self, data: bytes) -> None:
        self._writer.write(chunk(data))

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")

    def die(self, *, reset: bool) -> None:
        """`reset`: with a RST, as from a process that was killed with data unread; else with a FIN."""
        if reset:
            sock: socket.socket = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def scripted(*pieces: bytes, head: bytes = head(), last: bytes = b"0\r\n\r\n") -> Handler:
    """An engine that sends these pieces, each in a write of its own, and ends with `last`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(head)
        for piece in pieces:
            await asyncio.sleep(0)
            writer.write(chunk(piece))
            await writer.drain()
        writer.write(last)
        await writer.drain()

    return handler


# ── what goes through ──────────────────────────────────────────────────────────────────────────


async def test_each_token_goes_out_when_it_comes_in() -> None:
    """The engine makes the next one only when the client has the one before. So nothing is held back, and nothing
    is delayed: a timer of any sort would show in the lag."""
    events = Events()
    lags_s: list[float] = []
    loop = asyncio.get_running_loop()
    async with Stage(events) as stage, Talk(stage.port) as talk:
        talk.write(get())
        await events.begun()
        talk.put_back(await talk.until(b"\r\n\r\n"))
        for number in range(200):
            event = b'data: {"token": "t%d"}\n\n' % number
            began = loop.time()
            events.send(event)
            talk.put_back(await talk.until(event))
            lags_s.append(loop.time() - began)
        events.end()
        answer = await talk.answer()
        assert answer.complete
        assert answer.body.count(b"\n\n") == 200
        assert stage.accepted == 1
        await stage.idle()
    assert statistics.median(lags_s) < 0.02
    assert sorted(lags_s)[-5] < 1.0, "the machine may stand still now and then, and no more often"


async def test_the_head_goes_out_before_the_first_event() -> None:
    events = Events()
    async with Stage(events) as stage, Talk(stage.port) as talk:
        talk.write(get())
        assert b"text/event-stream" in await talk.until(b"\r\n\r\n")
        events.end()
        assert await talk.until(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "stream",
    [
        b"data: a\r\n\r\ndata: b\r\n\r\n",
        b"data: a\r\rdata: b\r\r",
        b": comment\n\n:\n\n: keep-alive\r\n\r\ndata: x\n\n",
        b"\xef\xbb\xbfid: 1\nevent: e\nretry: 10\ndata: 1\ndata:\ndata: 2\n\n",
        b"data: no end",
        b"data: a\x00b\xff\xfe not UTF-8\n\n",
        b'event: error\ndata: {"error": {"message": "out of memory"}}\n\ndata: more\n\ndata: [DONE]\n\n',
    ],
    ids=["CRLF", "CR", "comments", "fields", "unfinished", "bytes", "an error of the engine's"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_events_arrive_byte_for_byte_in_whatever_pieces(stream: bytes, size: int) -> None:
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    async with Stage(scripted(*pieces)) as stage:
        answer = await ask(stage.port, get())
        assert (answer.body, answer.complete) == (stream, True)
        assert answer.header("content-type") == "text/event-stream; charset=utf-8"
        await stage.idle()


async def test_characters_split_between_chunks_at_every_byte() -> None:
    """One, two, three and four bytes of UTF-8, cut everywhere, also within the frame of a chunk."""
    text = "data: aé€😀\u2028\n\n".encode()
    frame = head() + chunk(text) + b"0\r\n\r\n"
    for cut in range(1, len(text)):
        async with Stage(scripted(text[:cut], text[cut:])) as stage:
            assert (await ask(stage.port, get())).body == text

    async def in_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for cut in range(1, len(frame)):
            await next_request(reader)
            writer.write(frame[:cut])
            await asyncio.sleep(0.001)
            writer.write(frame[cut:])

    async with Stage(in_two) as stage, Talk(stage.port) as talk:
        for _ in range(1, len(frame)):
            answer = await talk.ask(get())
            assert (answer.body, answer.complete) == (text, True)
        assert stage.accepted == 1


@pytest.mark.parametrize("pieces", [1, 100])
async def test_an_event_of_ten_mebibytes(pieces: int) -> None:
    event = b"data: " + b"x" * (10 << 20) + b"\n\n"
    size = -(-len(event) // pieces)
    parts = [event[at : at + size] for at in range(0, len(event), size)]
    async with Stage(scripted(*parts)) as stage:
        answer = await ask(stage.port, get())
        assert answer.complete
        assert answer.body == event
        await stage.idle()


async def test_an_old_client_gets_the_same_stream_without_chunks() -> None:
    async with Stage(scripted(b"data: a\n\n", b"data: b\n\n")) as stage, Talk(stage.port) as talk:
        talk.write(b"GET /x HTTP/1.0\r\n\r\n")
        raw = await talk.rest()
        assert raw.endswith(b"\r\n\r\ndata: a\n\ndata: b\n\n")
        await stage.idle()


# ── untimely ends ──────────────────────────────────────────────────────────────────────────────


def told(answer: Reply, before: bytes, *, gap: bytes = b"") -> dict[str, object]:
    """The error that follows on what had come; nothing follows it and the answer is not complete."""
    assert (answer.status, answer.complete) == (200, False)
    assert answer.body.startswith(before + gap + b"event: error\ndata: ")
    event = answer.body[len(before) + len(gap) :]
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 3
    error: dict[str, object] = json.loads(event.split(b"data: ", 1)[1])["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(
    ("sent", "gap"),
    [
        ([b"data: a\n\n", b"data: b\n\n"], b""),
        ([b"data: a\r\n\r\n"], b""),
        ([b"data: a\n\n", b"data: cut in the mid"], b"\n\n"),
        ([b"data: a\n", b"\n"], b"\n\n"),
        ([], b""),
        ([b"event: error\ndata: {}\n\n"], b""),
    ],
)
async def test_an_engine_that_dies_is_told_in_the_stream(
    reset: bool, sent: Sequence[bytes], gap: bytes
) -> None:
    events = Events()
    async with Stage(events) as stage, Talk(stage.port) as talk:
        talk.write(get())
        await events.begun()
        talk.put_back(await talk.until(b"\r\n\r\n"))
        for piece in sent:
            events.send(piece)
            talk.put_back(await talk.until(piece + b"\r\n"))
        events.die(reset=reset)
        answer = await talk.answer()
        error = told(answer, b"".join(sent), gap=gap)
        assert (error["type"], error["code"]) == ("server_error", "backend_interrupted")
        await stage.idle(failures=1)


async def test_an_engine_that_speaks_nonsense_in_mid_stream_is_told_too() -> None:
    events = Events()
    async with Stage(events) as stage, Talk(stage.port) as talk:
        talk.write(get())
        await events.begun()
        events.send(b"data: a\n\n")
        talk.put_back(await talk.until(b"data: a\n\n\r\n"))
        events.raw(b"xyz\r\n")
        assert told(await talk.answer(), b"data: a\n\n")["code"] == "backend_protocol_error"
        await stage.idle(failures=1)


async def test_an_engine_that_falls_silent_is_told_too() -> None:
    events = Events(head() + chunk(b"data: a\n\n"))
    upstream = UpstreamSettings(idle_timeout_s=0.1)
    async with Stage(events, upstream=upstream) as stage, Talk(stage.port) as talk:
        talk.write(get())
        assert told(await talk.answer(), b"data: a\n\n")["code"] == "backend_timeout"
        await stage.idle(failures=1)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (head(b"content-encoding: gzip"), gzip.compress(b"data: a\n\n")[:-3]),
        (head(kind=b"application/json"), b'{"a": 1'),
        (head(kind=b"application/x-ndjson"), b'{"a": 1}\n'),
        (head(kind=b"text/event-streams-of-mine"[:12]), b"data: a\n\n"),
    ],
    ids=["compressed", "json", "ndjson", "text"],
)
async def test_nothing_is_added_to_what_is_no_plain_stream_of_events(head: bytes, body: bytes) -> None:
    """It could not be read there. The connection breaks in the middle of the body."""
    async with Stage(scripted(body, head=head, last=b"")) as stage:
        answer = await ask(stage.port, get())
        assert (answer.body, answer.complete) == (body, False)
        await stage.idle(failures=1)


async def test_nothing_is_added_to_an_announced_length() -> None:
    frame = b"content-length: 1000\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(head(frame=frame) + b"data: a\n\n")

    async with Stage(script) as stage:
        answer = await ask(stage.port, get())
        assert (answer.body, answer.complete) == (b"data: a\n\n", False)
        await stage.idle(failures=1)


async def test_a_stream_that_ends_with_its_connection_has_a_proper_end_and_a_reset_is_none() -> None:
    for reset in (False, True):
        events = Events(head(frame=b""))
        async with Stage(events) as stage, Talk(stage.port) as talk:
            talk.write(get())
            await events.begun()
            events.raw(b"data: a\n\n")
            talk.put_back(await talk.until(b"data: a\n\n\r\n"))
            events.die(reset=reset)
            answer = await talk.answer()
            assert answer.complete is not reset
            if reset:
                told(answer, b"data: a\n\n")
            else:
                assert answer.body == b"data: a\n\n"
            await stage.idle(failures=int(reset))


async def test_an_old_client_gets_the_error_and_a_reset() -> None:
    events = Events()
    async with Stage(events) as stage, Talk(stage.port) as talk:
        talk.write(b"GET /x HTTP/1.0\r\n\r\n")
        await events.begun()
        events.send(b"data: a\n\n")
        await talk.until(b"data: a\n\n")
        events.die(reset=False)
        assert not await talk.ended()
        await stage.idle(failures=1)


# ── clients ────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_client_gets_every_event_of_a_fast_engine() -> None:
    """It is much more than the kernel keeps for a client with so small a buffer."""
    count = 6_000
    piece = b"data: " + b"x" * 4000 + b"\n\n"
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await next_request(reader)
        writer.write(head())
        while sent < count:
            writer.write(chunk(piece))
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")

    async with Stage(script) as stage, Talk(stage.port, receive_bytes=4096) as talk:
        talk.write(post(b"{}", target="/v1/chat/completions"))
        await until(lambda: sent > 100)
        answer = await talk.answer("POST")
        assert answer.complete
        assert answer.body == piece * count
        await stage.idle()
