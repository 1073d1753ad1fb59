"""An upload over a slow line to a real sshd: a question waits behind it for longer than a silence may last.

The line takes 8 KB in a second, and all of the upload stands in the queues of the client's machine at once. sshd makes
room for more only after some 96 KB, so nothing at all comes back before the end. With the interval of 0.75 s and two
keepalives a connection in use is asked after 0.75 s of silence, and without anything that moves it is doubted after
1.5 s and dead after 2.25 s. It is looked at four times in each interval.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.helpers.faulty_relay import FaultyRelay, Side
from tests.helpers.relay_deaths import SLACK_S, listen
from tests.helpers.ssh_engines import sshtunnel_engine
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, direct, engine_for, target_for
from tests.helpers.uv import SERVED_LOOP
from vastproxy.services.tunnels.base import Tunnel, TunnelEngine
from vastproxy.services.tunnels.tcp import give_up_after

pytestmark = [
    SERVED_LOOP,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what has arrived"),
]

INTERVAL_S, COUNT = 0.75, 2
ASKED_S, DOUBTED_S, DEAD_S = 0.75, 1.5, 2.25
LOOK_EVERY_S = INTERVAL_S / 4
BYTES_PER_S = 8_000
UPLOAD_BYTES = 48_000


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


def engine_of(way: str, sshd: Sshd) -> TunnelEngine:
    if way == "sshtunnel":
        return sshtunnel_engine(sshd, keepalive_interval_s=INTERVAL_S, keepalive_count=COUNT)
    return engine_for(sshd, fast=way == "fast", keepalive_interval_s=INTERVAL_S, keepalive_count=COUNT)


@contextlib.asynccontextmanager
async def slow_tunnel(way: str, sshd: Sshd) -> AsyncIterator[tuple[Tunnel, FaultyRelay]]:
    """The login is not slow. TCP's own limit is out of the way: a relay that has little room, and often none, may
    run into it; see `tcp.give_up_after`."""
    engine = engine_of(way, sshd)
    async with FaultyRelay(sshd.port, is_narrow=True) as relay:
        address = direct(relay.port)
        tunnel = await engine.connect(target_for(address), address)
        pulse: Any = getattr(tunnel, "pulse")  # noqa: B009  # no part of what every tunnel has
        give_up_after(pulse._delivery._sock, 60)
        relay.slow(BYTES_PER_S, Side.SERVER)
        try:
            yield tunnel, relay
        finally:
            sshd.thaw()
            relay.heal()
            await tunnel.close()
            await engine.close()


@pytest.fixture(params=["fast", "stock", "sshtunnel"])
def way(request: pytest.FixtureRequest) -> str:
    """Around asyncssh, through it, and through paramiko."""
    return str(request.param)


async def take_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that answers when it has the whole request."""
    await reader.readexactly(UPLOAD_BYTES)
    writer.write(b"thanks")
    await writer.drain()
    await reader.read()


async def test_an_upload_is_never_doubted_and_arrives(sshd: Sshd, way: str) -> None:
    """Although nothing comes for several times as long as it takes to be dead."""
    loop = asyncio.get_running_loop()
    doubts: list[bool] = []
    async with Peer().serve(take_all) as peer, slow_tunnel(way, sshd) as (tunnel, _):
        tunnel.on_doubt = doubts.append
        stream = await tunnel.open(Recorder, peer.port)
        began = loop.time()
        stream.stream.write(bytes(UPLOAD_BYTES))
        async with asyncio.timeout(3 * UPLOAD_BYTES / BYTES_PER_S):
            await stream.has_received(len(b"thanks"))
        assert loop.time() - began > 0.8 * UPLOAD_BYTES / BYTES_PER_S > 2 * DEAD_S, "it was not slow"
        assert doubts == []
        assert tunnel.is_alive
        stream.stream.close()
        await stream.lost.wait()
        assert stream.lost_with is None


async def test_an_sshd_that_stops_in_an_upload_is_noticed_once_the_question_is_there(
    sshd: Sshd, way: str
) -> None:
    """Its kernel goes on acknowledging, the rest of the upload and then the question; from then on it is as always."""
    loop = asyncio.get_running_loop()
    doubted = asyncio.Event()
    doubts: list[bool] = []

    def note(is_doubted: bool) -> None:
        doubts.append(is_doubted)
        doubted.set()

    async with Peer().serve(listen) as peer, slow_tunnel(way, sshd) as (tunnel, relay):
        tunnel.on_doubt = note
        stream = await tunnel.open(Recorder, peer.port)
        before = relay.forwarded[Side.SERVER]
        stream.stream.write(bytes(UPLOAD_BYTES))
        await relay.until(lambda: relay.forwarded[Side.SERVER] - before > UPLOAD_BYTES / 2)
        sshd.freeze()
        stopped_at = loop.time()
        rest_s = (UPLOAD_BYTES - (relay.forwarded[Side.SERVER] - before)) / BYTES_PER_S
        async with asyncio.timeout(rest_s + DOUBTED_S + SLACK_S):
            await doubted.wait()
        assert loop.time() - stopped_at > rest_s / 2, "the question had not arrived"
        async with asyncio.timeout(DEAD_S - DOUBTED_S + SLACK_S):
            error = await asyncio.shield(tunnel.lost)
        assert "no sign of life for " in str(error)
        assert doubts == [True]
        await stream.lost.wait()


async def test_small_requests_that_are_acknowledged_keep_no_stopped_sshd_alive(sshd: Sshd, way: str) -> None:
    """One after another, over a line that is slow but has room: what arrives after the question tells nothing."""
    loop = asyncio.get_running_loop()
    async with Peer().serve(listen) as peer, slow_tunnel(way, sshd) as (tunnel, _):
        stream = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        stopped_at = loop.time()
        async with asyncio.timeout(DEAD_S + SLACK_S):
            while not tunnel.lost.done():
                stream.stream.write(b"a request")
                await asyncio.wait([tunnel.lost], timeout=0.05)
        assert DEAD_S - ASKED_S < loop.time() - stopped_at < DEAD_S + SLACK_S
        await stream.lost.wait()


async def test_an_upload_that_stands_still_is_doubted_and_dead_as_ever(sshd: Sshd, way: str) -> None:
    """Nothing is acknowledged any more while the question waits in our queue."""
    loop = asyncio.get_running_loop()
    async with Peer().serve(listen) as peer, slow_tunnel(way, sshd) as (tunnel, relay):
        stream = await tunnel.open(Recorder, peer.port)
        before = relay.forwarded[Side.SERVER]
        stream.stream.write(bytes(UPLOAD_BYTES))
        await relay.until(lambda: relay.forwarded[Side.SERVER] - before > UPLOAD_BYTES / 3)
        relay.freeze()
        stopped_at = loop.time()
        async with asyncio.timeout(DEAD_S + SLACK_S):
            await asyncio.shield(tunnel.lost)
        assert loop.time() - stopped_at > DEAD_S - ASKED_S - 2 * LOOK_EVERY_S
        await stream.lost.wait()
