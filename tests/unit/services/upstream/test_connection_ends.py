"""Connections to an engine in time: silence, slow readers, more of a request, ends, and other protocols."""

import asyncio

import pytest

from tests.helpers.recording_sink import (
    HEADERS_S,
    IDLE_S,
    PLAIN,
    REQUEST,
    SWITCH,
    Asking,
    RecordingSink,
    begun,
)
from vastproxy.services.errors import BackendTimeout, ResponseInterrupted
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

pytestmark = pytest.mark.virtual_time


# ── time ───────────────────────────────────────────────────────────────────────────────────────


async def test_no_headers_in_time() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200")
    await asyncio.sleep(HEADERS_S - 1)
    bench.stream.feed(b" OK\r\n")  # a head that dribbles is no head
    assert bench.sink.error is None
    await asyncio.sleep(1.1)
    assert isinstance(bench.sink.error, BackendTimeout)
    assert bench.sink.error.phase == "headers"
    assert "within 30 s" in str(bench.sink.error)


async def test_silence_in_the_middle_of_a_body() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    for byte in b"hell":
        await asyncio.sleep(IDLE_S - 1)
        bench.stream.feed(bytes([byte]))
    assert bench.sink.error is None
    await asyncio.sleep(IDLE_S + 1)
    assert isinstance(bench.sink.error, BackendTimeout)
    assert bench.sink.error.phase == "idle"
    assert bench.sink.body == b"hell"


async def test_between_requests_there_is_no_limit() -> None:
    bench = begun()
    bench.stream.feed(PLAIN)
    await asyncio.sleep(1000)
    assert bench.sink.error is None
    assert bench.connection.may_serve()


async def test_a_slow_reader_is_not_the_engines_silence() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    bench.connection.pause_reading()
    bench.connection.pause_reading()
    assert not bench.stream.reading
    await asyncio.sleep(1000)
    assert bench.sink.error is None
    bench.connection.resume_reading()
    assert bench.stream.reading
    await asyncio.sleep(IDLE_S + 1)
    assert isinstance(bench.sink.error, BackendTimeout)


async def test_a_paused_connection_reads_again_when_the_answer_is_complete() -> None:
    """The pool gets one that hears when the engine closes it."""

    class Slow(RecordingSink):
        def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
            super().engine_answered(head, data, done)
            bench.connection.pause_reading()

    bench = begun(sink=Slow())
    bench.stream.feed(PLAIN[:-2])
    assert not bench.stream.reading
    bench.stream.feed(PLAIN[-2:])  # what was on its way when the stream was told to stop
    assert bench.sink.done
    assert bench.stream.reading
    assert bench.connection.may_serve()


async def test_bytes_that_were_on_their_way_do_not_start_the_clock_of_a_paused_connection() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    bench.connection.pause_reading()
    bench.stream.feed(b"hello")
    await asyncio.sleep(1000)
    assert bench.sink.error is None
    bench.connection.abort()


# ── writing and ends ───────────────────────────────────────────────────────────────────────────


async def test_more_of_a_request() -> None:
    bench = begun()
    assert not bench.connection.write_paused
    bench.connection.pause_writing()
    assert bench.connection.write_paused
    bench.connection.write(b"more")
    bench.connection.resume_writing()
    assert not bench.connection.write_paused
    assert bench.sink.calls == ["writable"]
    assert bench.stream.written == REQUEST + b"more"
    bench.connection.forget()
    bench.connection.pause_writing()
    bench.connection.resume_writing()
    assert bench.sink.calls == ["writable"]


async def test_nothing_is_written_to_a_lost_connection() -> None:
    bench = begun(may_switch=True)
    bench.stream.lose()
    bench.connection.write(b"more")
    bench.connection.write_eof()
    bench.connection.resume_reading()
    assert bench.stream.written == REQUEST
    assert not bench.stream.eof_written


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_who_ends_a_connection_hears_nothing_more(how: str) -> None:
    bench = begun()
    bench.stream.feed(PLAIN[:-1])
    getattr(bench.connection, how)()
    assert (bench.stream.aborted, bench.stream.closed) == (how == "abort", how == "close")
    bench.stream.feed(b"o")
    bench.stream.lose()
    await asyncio.sleep(1000)
    assert bench.sink.calls == ["answered"]


async def test_ending_what_never_was_a_connection() -> None:
    connection = UpstreamConnection()
    connection.close()
    connection.abort()
    connection.pause_reading()
    connection.resume_reading()
    connection.write(b"x")
    connection.write_eof()
    assert not connection.may_serve()


async def test_closing_twice_closes_once() -> None:
    bench = Asking()
    bench.connection.close()
    bench.stream.closed = False
    bench.stream.aborted = True
    bench.connection.close()
    assert not bench.stream.closed


async def test_the_end_of_the_stream_is_reported_once() -> None:
    bench = Asking()
    ends: list[int] = []
    bench.connection.on_lost = lambda: ends.append(1)
    bench.stream.lose()
    assert ends == [1]
    assert not bench.connection.may_serve()
    assert bench.connection.on_lost is not None


async def test_who_asks_after_the_end_hears_of_it_too() -> None:
    """Between the opening of a stream and the next step of who opened it, the stream may end."""
    bench = Asking()
    bench.stream.lose()
    ends: list[int] = []
    bench.connection.on_lost = lambda: ends.append(1)
    assert ends == [1]
    bench.connection.on_lost = None
    assert ends == [1]


# ── other protocols ────────────────────────────────────────────────────────────────────────────


async def test_a_switch_makes_a_pipe() -> None:
    bench = begun(may_switch=True)
    bench.stream.feed(SWITCH + b"\x01")
    assert bench.sink.calls == ["switched"]
    bench.stream.feed(b"\x02")
    bench.connection.write(b"up")
    assert bench.sink.body == b"\x01\x02"
    assert bench.stream.written == REQUEST + b"up"


async def test_either_side_of_a_pipe_keeps_it_alive() -> None:
    bench = begun(may_switch=True)
    bench.stream.feed(SWITCH)
    for turn in range(6):
        await asyncio.sleep(IDLE_S - 1)
        bench.connection.write(b"up") if turn % 2 else bench.stream.feed(b"down")
    assert bench.sink.error is None
    bench.connection.pause_reading()
    bench.connection.write(b"up")
    await asyncio.sleep(IDLE_S + 1)  # the client does not read: nobody's silence
    assert bench.sink.error is None
    bench.connection.resume_reading()
    assert not bench.sink.done
    await asyncio.sleep(IDLE_S + 1)
    assert bench.sink.done  # both were silent, so it is nobody's fault
    assert bench.sink.error is None
    bench.connection.abort()


async def test_each_half_of_a_pipe_ends_by_itself() -> None:
    bench = begun(may_switch=True)
    bench.stream.feed(SWITCH)
    bench.connection.write_eof()
    assert bench.stream.eof_written
    bench.stream.feed(b"still")
    assert bench.connection.eof_received() is True
    assert (bench.sink.body, bench.sink.done) == (b"still", True)
    bench.connection.abort()
    bench.stream.lose()
    assert bench.sink.calls == ["switched", "data", "data"]


async def test_a_pipe_that_breaks_is_no_end() -> None:
    bench = begun(may_switch=True)
    bench.stream.feed(SWITCH)
    bench.stream.lose(ConnectionResetError("reset"))
    assert isinstance(bench.sink.error, ResponseInterrupted)
    assert not bench.sink.done


async def test_the_end_of_a_pipe_that_nobody_holds() -> None:
    bench = begun(may_switch=True)
    bench.stream.feed(SWITCH)
    bench.connection.forget()
    assert bench.connection.eof_received() is True
    assert bench.sink.calls == ["switched"]
