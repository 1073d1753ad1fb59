"""Connections to an engine: an answer to its sink, piece by piece, or one error, and never anything after it."""

import asyncio

import pytest

from tests.helpers.recording_sink import RecordingSink
from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import BackendProtocolError, BackendTimeout, ResponseInterrupted
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.response import ResponseHead

pytestmark = pytest.mark.virtual_time

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 7\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
HEADERS_S, IDLE_S = 30.0, 10.0


class Bench:
    """One connection, its stream and who asked."""

    def __init__(self) -> None:
        self.connection = UpstreamConnection()
        self.stream = MemoryStream(self.connection)
        self.sink = RecordingSink()

    def send(
        self, *, head_only: bool = False, may_switch: bool = False, sink: RecordingSink | None = None
    ) -> None:
        self.sink = sink or RecordingSink()
        self.connection.send(
            REQUEST,
            self.sink,
            headers_timeout_s=HEADERS_S,
            idle_timeout_s=IDLE_S,
            head_only=head_only,
            may_switch=may_switch,
        )


def begun(*, head_only: bool = False, may_switch: bool = False, sink: RecordingSink | None = None) -> Bench:
    bench = Bench()
    bench.send(head_only=head_only, may_switch=may_switch, sink=sink)
    return bench


# ── answers ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("size", [1, 10, 1000])
async def test_an_answer_however_it_arrives(data: bytes, size: int) -> None:
    bench = begun()
    assert bench.stream.written == REQUEST
    assert not bench.connection.reusable
    for at in range(0, len(data), size):
        bench.stream.feed(data[at : at + size])
    assert bench.sink.head is not None
    assert (bench.sink.head.status, bench.sink.body, bench.sink.done) == (200, b"hello", True)
    assert bench.connection.trailers == ([(b"x-sum", b"7")] if data is CHUNKED else [])
    assert bench.sink.calls[0] == "answered"
    assert set(bench.sink.calls[1:]) <= {"data"}
    assert bench.connection.reusable


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
    assert bench.connection.reusable


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
        assert bench.connection.reusable
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
        def engine_interim(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
            super().engine_interim(status, headers)
            bench.connection.abort()

    bench = begun(sink=Leaving())
    bench.stream.feed(b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + PLAIN)
    assert bench.sink.calls == ["interim"]
    assert bench.stream.aborted


async def test_an_answer_to_head_ends_with_its_head() -> None:
    bench = begun(head_only=True)
    bench.stream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert bench.sink.done
    assert bench.connection.reusable


async def test_without_length_the_end_of_the_connection_is_the_end_of_the_body() -> None:
    bench = begun()
    bench.stream.feed(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert not bench.sink.done
    assert bench.connection.eof_received() is False
    assert (bench.sink.body, bench.sink.done, bench.sink.error) == (b"all of it", True, None)
    bench.stream.lose()
    assert bench.sink.calls == ["answered", "data"]
    assert not bench.connection.reusable


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
        assert not bench.connection.reusable


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
    assert not bench.connection.reusable
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
    assert not bench.connection.reusable
    early = Bench()
    assert early.connection.reusable
    early.stream.feed(b"220 hello\r\n")
    assert not early.connection.reusable


@pytest.mark.parametrize("how", ["eof", "lost"])
async def test_a_connection_that_ended_before_it_was_used_is_reported(how: str) -> None:
    """Not after the time that an engine has to answer, and not within the call that sends."""
    bench = Bench()
    bench.stream.feed_eof() if how == "eof" else bench.stream.lose()
    assert not bench.connection.reusable
    bench.send()
    assert bench.sink.error is None
    await asyncio.sleep(0)
    assert isinstance(bench.sink.error, ResponseInterrupted)
    assert not bench.sink.error.received


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
    assert bench.connection.reusable


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
    assert bench.connection.reusable


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
    assert not connection.reusable


async def test_closing_twice_closes_once() -> None:
    bench = Bench()
    bench.connection.close()
    bench.stream.closed = False
    bench.stream.aborted = True
    bench.connection.close()
    assert not bench.stream.closed


async def test_the_end_of_the_stream_is_reported_once() -> None:
    bench = Bench()
    ends: list[int] = []
    bench.connection.on_lost = lambda: ends.append(1)
    bench.stream.lose()
    assert ends == [1]
    assert not bench.connection.reusable
    assert bench.connection.on_lost is not None


async def test_who_asks_after_the_end_hears_of_it_too() -> None:
    """Between the opening of a stream and the next step of who opened it, the stream may end."""
    bench = Bench()
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
