"""Connections to one engine: which are used again, which are not, and how new ones fail."""

import asyncio
from collections.abc import Callable

import pytest

from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import BackendConnectError, BackendError, ChannelRefused
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.pool import UpstreamPool
from vastproxy.services.upstream.response import ResponseHead

pytestmark = pytest.mark.virtual_time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """Opens streams in memory."""

    def __init__(self) -> None:
        self.streams: list[MemoryStream] = []
        self.refuses = False
        self.hangs = False
        self.greets = b""
        self.hangs_up = False

    async def open(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses:
            raise ChannelRefused("port 18000 is closed")
        connection = factory()
        stream = MemoryStream(connection)
        self.streams.append(stream)
        if self.greets:
            stream.feed(self.greets)
        if self.hangs_up:
            stream.lose()
        return connection

    def pool(self, *, idle_s: float = 60.0, max_idle: int = 4) -> UpstreamPool:
        return UpstreamPool(self.open, connect_timeout_s=10, idle_s=idle_s, max_idle=max_idle)


class Nobody:
    """Takes an answer and does nothing with it."""

    def engine_interim(self, status: int, lines: bytes) -> None: ...

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None: ...

    def engine_data(self, data: bytes, done: bool) -> None: ...

    def engine_switched(self, head: ResponseHead, data: bytes) -> None: ...

    def engine_failed(self, error: BackendError) -> None: ...

    def engine_writable(self) -> None: ...


async def use(pool: UpstreamPool, peer: Peer, answer: bytes = ANSWER) -> UpstreamConnection:
    """One request on the connection that the pool gives, which then has it back."""
    connection = pool.take() or await pool.open()
    connection.send(b"GET / HTTP/1.1\r\n\r\n", Nobody(), headers_timeout_s=1, idle_timeout_s=1)
    next(stream for stream in peer.streams if stream.protocol is connection).feed(answer)
    pool.release(connection)
    return connection


async def test_the_one_used_last_is_used_next() -> None:
    peer = Peer()
    pool = peer.pool()
    assert pool.take() is None
    first, second = await pool.open(), await pool.open()
    pool.release(first)
    pool.release(second)
    assert len(pool) == 2
    assert pool.take() is second
    assert pool.take() is first
    assert pool.take() is None
    pool.aclose()


async def test_an_answered_connection_is_used_again_and_says_so() -> None:
    peer = Peer()
    pool = peer.pool()
    used = await use(pool, peer)
    assert await use(pool, peer) is used
    assert used.requests == 2
    assert len(peer.streams) == 1
    pool.aclose()


@pytest.mark.parametrize("how", ["close", "eof", "lost", "bytes"])
async def test_one_that_cannot_go_on_is_not_used(how: str) -> None:
    """Whether that is known when it comes back, or happens while it waits."""
    peer = Peer()
    pool = peer.pool()
    used = await use(
        pool, peer, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n" if how == "close" else ANSWER
    )
    stream = peer.streams[0]
    if how == "eof":
        stream.feed_eof()
    elif how == "lost":
        stream.lose(ConnectionResetError())
    elif how == "bytes":
        stream.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not used.may_serve()
    assert pool.take() is None
    assert stream.is_closing()
    assert len(pool) == 0
    pool.aclose()


async def test_old_ones_are_closed_without_anybody_asking() -> None:
    peer = Peer()
    pool = peer.pool(idle_s=3)
    first, second = await pool.open(), await pool.open()
    pool.release(first)
    await asyncio.sleep(2)
    pool.release(second)
    await asyncio.sleep(1.5)
    assert [stream.closed for stream in peer.streams] == [True, False]
    assert len(pool) == 1
    await asyncio.sleep(1.6)
    assert [stream.closed for stream in peer.streams] == [True, True]
    assert len(pool) == 0


async def test_an_old_one_is_not_used_even_before_it_is_swept() -> None:
    peer = Peer()
    pool = peer.pool(idle_s=3)
    used = await use(pool, peer)
    used.idle_since -= 3.01
    assert pool.take() is None
    assert peer.streams[0].closed
    pool.aclose()


async def test_no_more_than_the_limit_stay() -> None:
    peer = Peer()
    pool = peer.pool(max_idle=2)
    for connection in [await pool.open() for _ in range(3)]:
        pool.release(connection)
    assert len(pool) == 2
    assert [stream.closed for stream in peer.streams] == [False, False, True]
    pool.aclose()


async def test_a_refused_or_slow_channel_means_that_nothing_was_sent() -> None:
    peer = Peer()
    pool = peer.pool()
    peer.refuses = True
    with pytest.raises(BackendConnectError, match="18000 is closed"):
        await pool.open()
    peer.refuses, peer.hangs = False, True
    with pytest.raises(BackendConnectError, match="within 10 s"):
        await pool.open()
    assert asyncio.get_running_loop().time() == 10


@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n"])
async def test_one_that_ends_or_speaks_before_it_is_asked_is_no_connection(greeting: bytes) -> None:
    """Nothing was sent on it, so the request may go elsewhere."""
    peer = Peer()
    peer.greets, peer.hangs_up = greeting, not greeting
    with pytest.raises(BackendConnectError, match="at once"):
        await peer.pool().open()
    assert peer.streams[0].is_closing()


async def test_a_closed_pool_keeps_nothing() -> None:
    peer = Peer()
    pool = peer.pool()
    busy = await pool.open()
    await use(pool, peer)
    assert len(pool) == 1
    pool.aclose()
    pool.release(busy)
    assert len(pool) == 0
    assert all(stream.closed for stream in peer.streams)


async def test_a_cleared_pool_goes_on() -> None:
    peer = Peer()
    pool = peer.pool()
    await use(pool, peer)
    pool.clear()
    assert peer.streams[0].closed
    await use(pool, peer)
    assert len(pool) == 1
    pool.aclose()
