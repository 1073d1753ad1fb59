"""The engine and the load of streams understand each other, however the bytes between them are cut."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from bench.answers import CHAT, DONE, STAMP_MARK
from bench.engine import Connection, Wheel
from bench.sse_load import Counts, Stream, build_request

REQUEST = build_request("127.0.0.1:1", tokens=3, key="k")


class Transport:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class StoppedWheel:
    """Streams get their turns from the test."""

    def __init__(self) -> None:
        self.slot: dict[Connection, None] = {}

    def add(self, stream: Connection) -> dict[Connection, None]:
        self.slot[stream] = None
        return self.slot

    def turn(self) -> None:
        for stream in tuple(self.slot):
            stream.send_token()


def engine(wheel: StoppedWheel | None = None) -> tuple[Connection, Transport]:
    connection = Connection(
        cast(Wheel, wheel or StoppedWheel()), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    )
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, transport))
    return connection, transport


def streamed() -> bytes:
    """What the engine answers to REQUEST."""
    wheel = StoppedWheel()
    connection, transport = engine(wheel)
    connection.data_received(REQUEST)
    while wheel.slot:
        wheel.turn()
    return transport.written


def client(wanted: int = 3) -> tuple[Stream, Counts, Transport]:
    counts, transport = Counts(), Transport()
    stream = Stream(counts, REQUEST, wanted)
    stream.connection_made(cast(asyncio.BaseTransport, transport))
    return stream, counts, transport


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def test_a_stream_has_as_many_tokens_as_were_asked_for_and_an_end() -> None:
    answer = streamed()
    assert answer.count(STAMP_MARK) == 3
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert DONE in answer


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 100, 1 << 20])
def test_tokens_are_counted_once_however_they_are_cut(size: int) -> None:
    stream, counts, transport = client()
    for piece in pieces(streamed(), size):
        if not transport.aborted:
            stream.data_received(piece)
    assert (counts.tokens, len(counts.lags), counts.complete, dict(counts.broken)) == (3, 3, 1, {})
    assert len(counts.first) == 1
    assert all(0 <= lag < 10 * 10**9 for lag in counts.lags)


def test_a_lag_is_the_time_since_the_stamp() -> None:
    stream, counts, _ = client()
    stamp = time.monotonic_ns() - 5_000_000
    stream.data_received(b"HTTP/1.1 200 OK\r\n\r\n@%019d " % stamp)
    assert 5_000_000 <= counts.lags[0] <= time.monotonic_ns() - stamp


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n@0000000000000000001 data: [DONE]\n\n", "tokens missing"),
    ],
)
def test_a_stream_that_ends_badly_is_broken_once(data: bytes, problem: str) -> None:
    stream, counts, transport = client()
    stream.data_received(data)
    stream.connection_lost(None)
    assert transport.aborted
    assert dict(counts.broken) == {problem: 1}


def test_a_stream_cut_before_its_end_is_broken() -> None:
    stream, counts, _ = client()
    stream.data_received(streamed()[:-40])
    stream.connection_lost(ConnectionResetError())
    assert dict(counts.broken) == {"ConnectionResetError": 1}
    assert counts.complete == 0


def test_a_stamp_cut_by_a_chunk_of_the_proxy_is_a_token_without_a_lag() -> None:
    stream, counts, _ = client()
    stream.data_received(b"HTTP/1.1 200 OK\r\n\r\n@000000000\r\n1f\r\n0000000001 ")
    assert (counts.tokens, counts.unreadable, len(counts.lags)) == (1, 1, 0)


def posted(body: bytes, *, chunked: bool = False) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode()
    if chunked:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("size", [1, 5, 4096, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_engine_answers_each_request_once_however_it_is_cut(size: int, chunked: bool) -> None:
    connection, transport = engine()
    for _ in range(2):
        for piece in pieces(posted(b"x" * 5000, chunked=chunked), size):
            connection.data_received(piece)
    assert transport.written.count(b"HTTP/1.1 200") == 2


def test_the_engine_answers_pipelined_requests_after_the_stream_before_them() -> None:
    wheel = StoppedWheel()
    connection, transport = engine(wheel)
    connection.data_received(REQUEST + b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert transport.written.count(b"HTTP/1.1 200") == 1
    while wheel.slot:
        wheel.turn()
    assert transport.written.count(b"HTTP/1.1 200") == 2


def test_a_client_that_leaves_takes_its_stream_along() -> None:
    wheel = StoppedWheel()
    connection, _ = engine(wheel)
    connection.data_received(REQUEST)
    assert wheel.slot
    connection.connection_lost(None)
    assert not wheel.slot


def test_what_is_asked_of_an_engine_beside_the_work_is_answered() -> None:
    connection, transport = engine()
    for path in ("/health", "/version", "/v1/models"):
        connection.data_received(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    connection.data_received(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n")
    assert transport.written.count(b"HTTP/1.1 200") == 3
    assert transport.written.count(b"HTTP/1.1 404") == 1


class Clock:
    """The part of a loop that a wheel needs."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> None:
        self._due.append(callback)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due, self._due = self._due, []
        for callback in due:
            callback()


def test_the_wheel_spreads_streams_and_gives_each_its_rate() -> None:
    clock = Clock()
    wheel = Wheel(cast(asyncio.AbstractEventLoop, clock), rate=10)

    class Counted:
        def __init__(self) -> None:
            self.turns: list[float] = []

        def send_token(self) -> None:
            self.turns.append(clock.now)

    streams = [Counted() for _ in range(50)]
    for stream in streams:
        wheel.add(cast(Connection, stream))
    for _ in range(2000):
        clock.advance(0.001)
    assert all(19 <= len(stream.turns) <= 21 for stream in streams)
    together = [turn for stream in streams for turn in stream.turns]
    busiest = max(together.count(turn) for turn in set(together))
    assert busiest <= 3, "the turns of 50 streams are spread over 100 slots"
