"""Idle connections: which are used again, which are not."""

import asyncio
from collections.abc import Callable

import pytest

from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import BackendConnectError, ChannelRefused
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.services.upstream.pool import UpstreamPool

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """Opens streams in memory."""

    def __init__(self) -> None:
        self.streams: list[MemoryStream] = []
        self.refuses = False
        self.hangs = False

    async def open(self, factory: Callable[[], UpstreamConnection]) -> UpstreamConnection:
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses:
            raise ChannelRefused("port 18000 is closed")
        connection = factory()
        self.streams.append(MemoryStream(connection))
        return connection

    def pool(self, *, idle_s: float = 60.0, max_idle: int = 4) -> UpstreamPool:
        return UpstreamPool(self.open, connect_timeout_s=0.05, idle_s=idle_s, max_idle=max_idle)


async def use(pool: UpstreamPool, peer: Peer) -> UpstreamConnection:
    connection = await pool.acquire()
    connection.begin(b"GET / HTTP/1.1\r\n\r\n")
    next(s for s in peer.streams if s.protocol is connection).feed(ANSWER)
    await connection.response(timeout_s=1, idle_timeout_s=1)
    await connection.read()
    pool.release(connection)
    return connection


async def test_the_one_used_last_is_used_next() -> None:
    peer = Peer()
    pool = peer.pool()
    first, second = await pool.acquire(), await pool.acquire()
    pool.release(first)
    pool.release(second)
    assert await pool.acquire() is second
    assert await pool.acquire() is first
    pool.aclose()


async def test_an_answered_connection_is_used_again_and_says_so() -> None:
    peer = Peer()
    pool = peer.pool()
    used = await use(pool, peer)
    assert await pool.acquire() is used
    assert used.requests == 1
    pool.aclose()


async def test_fresh_insists_on_a_new_one() -> None:
    peer = Peer()
    pool = peer.pool()
    used = await use(pool, peer)
    assert await pool.acquire(fresh=True) is not used
    pool.aclose()


async def test_one_that_the_engine_closed_is_not_used() -> None:
    peer = Peer()
    pool = peer.pool()
    used = await use(pool, peer)
    peer.streams[0].feed_eof()
    assert await pool.acquire() is not used
    pool.aclose()


async def test_an_old_one_is_closed_without_anybody_asking() -> None:
    peer = Peer()
    pool = peer.pool(idle_s=0.02)
    await use(pool, peer)
    async with asyncio.timeout(2):
        while not peer.streams[0].closed:
            await asyncio.sleep(0.005)
    assert len(pool) == 0


async def test_an_old_one_is_not_used_even_before_it_is_swept() -> None:
    peer = Peer()
    pool = peer.pool(idle_s=0)
    used = await use(pool, peer)
    used.idle_since -= 1
    assert await pool.acquire() is not used
    pool.aclose()


async def test_no_more_than_the_limit_stay() -> None:
    peer = Peer()
    pool = peer.pool(max_idle=2)
    for connection in [await pool.acquire() for _ in range(3)]:
        pool.release(connection)
    assert len(pool) == 2
    assert [stream.closed for stream in peer.streams] == [False, False, True]
    pool.aclose()


async def test_a_refused_or_slow_channel_means_that_nothing_was_sent() -> None:
    peer = Peer()
    pool = peer.pool()
    peer.refuses = True
    with pytest.raises(BackendConnectError, match="18000 is closed"):
        await pool.acquire()
    peer.refuses, peer.hangs = False, True
    with pytest.raises(BackendConnectError, match=r"within 0\.05 s"):
        await pool.acquire()


async def test_a_closed_pool_keeps_nothing() -> None:
    peer = Peer()
    pool = peer.pool()
    busy = await pool.acquire()
    await use(pool, peer)
    pool.aclose()
    pool.release(busy)
    assert len(pool) == 0
    assert all(stream.closed for stream in peer.streams)
