"""Answers on a connection to an engine: to its sink, piece by piece, or one error, and never anything after it."""

import asyncio

import pytest

from tests.helpers.recording_sink import (
    CHUNKED,
    PLAIN,
    REQUEST,
    Asking,
    RecordingSink,
    begun,
)
from vastproxy.services.errors import BackendProtocolError, ResponseInterrupted
from vastproxy.services.upstream.response import ResponseHead

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [1, 10, 1000])
async def test_an_answer_however_it_arrives(data: bytes, size: int) -> None:
    bench = begun()
    assert bench.stream.written == REQUEST
    assert not bench.connection.may_serve()
    for at in range(0, len(data), size):
        bench.stream.feed(data[at : at + size])
    assert bench.sink.head is not None
    assert (bench.sink.head.status, bench.sink.body, bench.sink.done) == (200, b"hello", True)
    assert bench.connection.trailers == ([(b"x-sum", b"7")] if data is CHUNKED else [])
    assert bench.sink.calls[0] == "answered"
    assert set(bench.sink.calls[1:]) <= {"data"}
    assert bench.connection.may_serve()


async def test_each_piece_is_told_when_it_comes() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in (b"a", b"bc"):
        bench.stream.feed(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert bench.sink.body.endswith(piece)
    bench.stream.feed(b"5\r\n")  # nothing of the body: nothing to tell
    assert bench.sink.calls == ["answered", "data", "data"]


async def test_trailers_in_one_piece_with_everything_else_come_with_the_end() -> None:
    bench = begun()
    bench.stream.feed(CHUNKED)
    assert bench.sink.calls == ["answered", "data"]
    assert (bench.sink.body, bench.sink.done) == (b"hello", True)
    assert bench.connection.trailers == [(b"x-sum", b"7")]
    assert bench.connection.may_serve()


async def test_who_gives_up_before_the_trailers_hears_nothing_more() -> None:
    class Leaving(RecordingSink):
        def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
            super().engine_answered(head, data, done)
            bench.connection.abort()

    bench = begun(sink=Leaving())
    bench.stream.feed(CHUNKED)
    assert bench.sink.calls == ["answered"]


async def test_one_request_after_another() -> None:
    bench = begun()
    for data in (PLAIN, CHUNKED, b"HTTP/1.1 204 X\r\n\r\n"):
        bench.stream.feed(data)
        assert bench.sink.done
        assert bench.connection.may_serve()
        bench.send()
    assert bench.connection.requests == 4
    assert not bench.stream.is_closing()


async def test_interim_answers_come_before_the_answer() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + PLAIN)
    assert bench.sink.calls == ["interim", "interim", "answered"]
    assert bench.sink.interim == [(100, []), (103, [(b"link", b"x")])]


async def test_who_gives_up_during_an_interim_answer_hears_nothing_more() -> None:
    class Leaving(RecordingSink):
        def engine_interim(self, status: int, lines: bytes) -> None:
            super().engine_interim(status, lines)
            bench.connection.abort()

    bench = begun(sink=Leaving())
    bench.stream.feed(b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + PLAIN)
    assert bench.sink.calls == ["interim"]
    assert bench.stream.aborted


async def test_an_answer_to_head_ends_with_its_head() -> None:
    bench = begun(head_only=True)
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert bench.sink.done
    assert bench.connection.may_serve()


async def test_without_length_the_end_of_the_connection_is_the_end_of_the_body() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert not bench.sink.done
    assert bench.connection.eof_received() is False
    assert (bench.sink.body, bench.sink.done, bench.sink.error) == (b"all of it", True, None)
    bench.stream.lose()
    assert bench.sink.calls == ["answered", "data"]
    assert not bench.connection.may_serve()


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
async def test_an_answer_cut_short_is_never_taken_for_a_whole_one(data: bytes, how: str) -> None:
    """At whatever byte the connection ends, the sink is told, once, after the bytes that came."""
    for cut in range(len(data)):
        bench = begun()
        if data[:cut]:
            bench.stream.feed(data[:cut])
        if how == "eof":
            bench.stream.feed_eof()
        bench.stream.lose(ConnectionResetError("reset by peer") if how == "reset" else None)
        assert not bench.sink.done
        assert isinstance(bench.sink.error, ResponseInterrupted)
        assert bench.sink.error.received is (cut > 0)
        assert bench.sink.calls.count("failed") == 1
        assert ("reset by peer" in str(bench.sink.error)) is (how == "reset")
        assert not bench.connection.may_serve()


async def test_a_reset_does_not_end_a_body_that_only_a_close_can_end() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\n\r\npart")
    bench.stream.lose(ConnectionResetError("reset"))
    assert isinstance(bench.sink.error, ResponseInterrupted)


@pytest.mark.parametrize("in_body", [False, True])
async def test_what_is_not_http_is_refused(in_body: bool) -> None:
    bench = begun()
    if in_body:
        bench.stream.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    bench.stream.feed(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert isinstance(bench.sink.error, BackendProtocolError)
    assert not bench.connection.may_serve()
    bench.connection.abort()
    assert bench.stream.aborted


async def test_garbage_after_everybody_left_ends_the_connection() -> None:
    bench = begun()
    bench.connection.forget()
    bench.stream.feed(b"garbage")
    assert bench.stream.aborted
    assert bench.sink.calls == []


async def test_bytes_that_nobody_asked_for_spoil_the_connection_only() -> None:
    bench = begun()
    bench.stream.feed(PLAIN + b"HTTP/1.1 200 OK\r\nevil: 1\r\ncontent-length: 3\r\n\r\nbad")
    assert (bench.sink.body, bench.sink.done) == (b"hello", True)
    assert not bench.connection.may_serve()
    early = Asking()
    assert early.connection.may_serve()
    early.stream.feed(b"220 hello\r\n")
    assert not early.connection.may_serve()


@pytest.mark.parametrize("how", ["eof", "lost"])
async def test_a_connection_that_ended_before_it_was_used_is_reported(how: str) -> None:
    """Not after the time that an engine has to answer, and not within the call that sends."""
    bench = Asking()
    bench.stream.feed_eof() if how == "eof" else bench.stream.lose()
    assert not bench.connection.may_serve()
    bench.send()
    assert bench.sink.error is None
    await asyncio.sleep(0)
    assert isinstance(bench.sink.error, ResponseInterrupted)
    assert not bench.sink.error.received
