"""One HTTP/1.1 connection to an engine, with the engine's bytes written by hand."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import BackendError, BackendProtocolError, BackendTimeout, ResponseInterrupted
from vastproxy.services.upstream.connection import HIGH_WATER_BYTES, ResponseHead, UpstreamConnection
from vastproxy.services.upstream.response import MAX_HEAD_BYTES

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"


def begun(*, head_only: bool = False) -> tuple[UpstreamConnection, MemoryStream]:
    connection = UpstreamConnection()
    stream = MemoryStream(connection)
    connection.begin(REQUEST, head_only=head_only)
    return connection, stream


async def head_of(connection: UpstreamConnection, timeout_s: float = 5) -> ResponseHead:
    return await connection.response(timeout_s=timeout_s, idle_timeout_s=timeout_s)


async def body_of(connection: UpstreamConnection) -> bytes:
    body = b""
    while not connection.finished:
        body += await connection.read()
    return body


@pytest.mark.parametrize(("data", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello world")])
async def test_an_answer_is_read_whole_and_byte_by_byte(data: bytes, body: bytes) -> None:
    """However the bytes are cut, the same answer comes out and the connection can be used again."""
    for size in (len(data), 1, 2, 7):
        connection, stream = begun()
        for start in range(0, len(data), size):
            stream.feed(data[start : start + size])
        assert (await head_of(connection)).status == 200
        assert await body_of(connection) == body
        assert connection.reusable


async def test_two_requests_on_one_connection() -> None:
    connection, stream = begun()
    stream.feed(PLAIN)
    await head_of(connection)
    assert await body_of(connection) == b"hello"
    connection.begin(REQUEST)
    stream.feed(CHUNKED)
    assert (await head_of(connection)).content_length is None
    assert await body_of(connection) == b"hello world"
    assert connection.requests == 2
    assert stream.written == REQUEST * 2


async def test_pieces_are_handed_out_as_they_come() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await head_of(connection)
    for piece in (b"one", b"two"):
        stream.feed(b"3\r\n" + piece + b"\r\n")
        assert await connection.read() == piece
        assert not connection.finished
    stream.feed(b"0\r\n\r\n")
    assert await connection.read() == b""
    assert connection.finished


async def test_interim_answers_are_skipped() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + PLAIN)
    head = await head_of(connection)
    assert (head.status, head.headers) == (200, [(b"content-length", b"5")])
    assert await body_of(connection) == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_end_with_their_head(status: int) -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 %d X\r\n\r\n" % status)
    assert (await head_of(connection)).status == status
    assert await body_of(connection) == b""
    assert connection.reusable


async def test_an_answer_to_head_has_no_body_whatever_it_announces() -> None:
    connection, stream = begun(head_only=True)
    stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert (await head_of(connection)).content_length == 5
    assert await body_of(connection) == b""
    assert not connection.reusable


async def test_without_length_the_end_of_the_connection_is_the_end_of_the_body() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    await head_of(connection)
    stream.feed_eof()
    assert await body_of(connection) == b"all of it"
    assert not connection.reusable


@pytest.mark.parametrize("data", [PLAIN, CHUNKED])
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_an_answer_cut_short_is_never_taken_for_a_whole_one(data: bytes, how: str) -> None:
    """At whatever byte the connection ends, the reader is told, after the bytes that came."""
    for cut in range(len(data)):
        connection, stream = begun()
        stream.feed(data[:cut])
        if how == "eof":
            stream.feed_eof()
        stream.lose(ConnectionResetError("reset") if how == "reset" else None)
        with pytest.raises(ResponseInterrupted) as caught:
            await head_of(connection)
            await body_of(connection)
        assert caught.value.received is (cut > 0)


async def test_a_reset_does_not_end_a_body_that_only_a_close_can_end() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\n\r\npart")
    await head_of(connection)
    stream.lose(ConnectionResetError("reset"))
    assert await connection.read() == b"part"
    with pytest.raises(ResponseInterrupted):
        await connection.read()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 201 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * MAX_HEAD_BYTES,
    ],
    ids=lambda data: repr(data[:40]),
)
async def test_what_is_not_http_is_refused_and_the_connection_ended(data: bytes) -> None:
    connection, stream = begun()
    stream.feed(data)
    with pytest.raises(BackendProtocolError):
        await head_of(connection)
        await body_of(connection)
    assert stream.aborted


async def test_a_second_answer_that_nobody_asked_for_spoils_the_connection_only() -> None:
    connection, stream = begun()
    stream.feed(PLAIN + b"HTTP/1.1 200 OK\r\nevil: 1\r\ncontent-length: 3\r\n\r\nbad")
    head = await head_of(connection)
    assert head.headers == [(b"content-length", b"5")]
    assert await body_of(connection) == b"hello"
    assert not connection.reusable


async def test_bytes_on_an_idle_connection_spoil_it() -> None:
    connection, stream = begun()
    stream.feed(PLAIN)
    await head_of(connection)
    await body_of(connection)
    stream.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not connection.reusable


async def test_trailers_do_not_change_headers_that_were_handed_out() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    head = await head_of(connection)
    stream.feed(b"0\r\nset-cookie: x\r\nx-sum: 7\r\n\r\n")
    await body_of(connection)
    assert head.headers == [(b"transfer-encoding", b"chunked")]


async def test_connection_close_is_obeyed() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    await head_of(connection)
    assert await body_of(connection) == b""
    assert not connection.reusable
    assert stream.closed


async def test_a_reader_that_does_not_read_stops_the_sender() -> None:
    """Bytes that wait are bounded: reading pauses above the mark and goes on when they were taken."""
    connection, stream = begun()
    size = 4 * HIGH_WATER_BYTES
    stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
    await head_of(connection)
    sent = 0
    while stream.reading:
        stream.feed(b"x" * 8192)
        sent += 8192
    assert HIGH_WATER_BYTES <= sent <= HIGH_WATER_BYTES + 8192
    assert len(await connection.read()) == sent
    assert stream.reading


async def test_no_headers_in_time() -> None:
    connection, stream = begun()
    with pytest.raises(BackendTimeout, match="no response headers") as caught:
        await head_of(connection, timeout_s=0.02)
    assert caught.value.phase == "headers"
    assert stream.aborted


async def test_silence_in_the_middle_of_a_body() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    await head_of(connection, timeout_s=0.02)
    assert await connection.read() == b"hello"
    with pytest.raises(BackendTimeout, match="not one more byte") as caught:
        await connection.read()
    assert caught.value.phase == "idle"


async def test_a_slow_reader_is_not_the_engines_silence() -> None:
    connection, stream = begun()
    stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    await head_of(connection, timeout_s=0.02)
    await asyncio.sleep(0.06)  # what is tested is that time passes and nothing happens
    assert await connection.read() == b"hello"
    stream.feed(b" you")
    assert await connection.read() == b" you"


async def test_writing_waits_while_the_stream_is_full() -> None:
    connection, _ = begun()
    connection.pause_writing()
    waiting = asyncio.get_running_loop().create_task(connection.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.resume_writing()
    await waiting


async def test_whoever_waits_hears_why_it_was_aborted() -> None:
    for wait in (lambda c: head_of(c), lambda c: c.drain()):
        connection, stream = begun()
        connection.pause_writing()
        waiting = asyncio.get_running_loop().create_task(wait(connection))
        await asyncio.sleep(0)
        connection.abort(BackendError("enough"))
        with pytest.raises(BackendError, match="enough"):
            await waiting
        assert stream.aborted
        with pytest.raises(BackendError, match="enough"):
            connection.write(b"more")


async def test_the_end_of_the_stream_is_reported_once() -> None:
    connection, stream = begun()
    ends: list[int] = []
    connection.on_lost = lambda: ends.append(1)
    stream.lose()
    assert ends == [1]
    assert not connection.reusable


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(1, 40), max_size=20), st.booleans())
async def test_garbage_gives_an_answer_or_one_of_our_errors(
    garbage: bytes, cuts: list[int], after_valid_head: bool
) -> None:
    """No matter what bytes an engine sends and how they are cut, the reader gets an answer or a BackendError."""
    data = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if after_valid_head else b"") + garbage
    connection, stream = begun()
    position = 0
    for size in [*cuts, len(data)]:
        stream.feed(data[position : position + size])
        position += size
    stream.lose()
    try:
        await head_of(connection)
        await body_of(connection)
    except BackendError:
        pass
