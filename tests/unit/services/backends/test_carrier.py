"""One SSH connection and the HTTP connections on it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.helpers.memory import Inside, MemoryTunnel
from vastproxy.services.backends.carrier import QUEUE_S, Carrier
from vastproxy.services.errors import BackendConnectError
from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.settings.model import UpstreamSettings

PORT = 18000


class Bench:
    def __init__(self) -> None:
        self.tunnel = MemoryTunnel(Inside(), SshAddress("192.0.2.7", 22, Path.RELAY))
        self.ended: list[Carrier] = []
        self.carrier = Carrier(self.tunnel, UpstreamSettings(), end=self.ended.append)

    def give_back(self, connection: UpstreamConnection) -> None:
        assert connection.home is not None
        connection.home.release(connection)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.tunnel.close()


async def test_what_comes_back_is_taken_again(bench: Bench) -> None:
    assert bench.carrier.take(PORT) is None
    connection = await bench.carrier.connect(PORT)
    assert (bench.carrier.streams, bench.carrier.busy, bench.carrier.idle) == (1, 1, 0)
    bench.give_back(connection)
    assert (bench.carrier.streams, bench.carrier.busy, bench.carrier.idle) == (1, 0, 1)
    assert bench.carrier.take(PORT + 1) is None
    assert bench.carrier.take(PORT) is connection
    connection.abort()
    assert bench.carrier.streams == 0


async def test_retired_it_ends_with_its_last_stream_and_takes_nothing_back(bench: Bench) -> None:
    """An answer that ends later must not leave its connection in the service of a way that was given up."""
    first, second = await bench.carrier.connect(PORT), await bench.carrier.connect(PORT)
    bench.carrier.retire()
    assert not bench.carrier.is_usable
    bench.give_back(first)
    assert bench.carrier.streams == 1
    assert bench.ended == []
    bench.give_back(second)
    assert bench.ended == [bench.carrier]


async def test_retired_without_streams_it_ends_at_once_and_its_idle_connections_with_it(bench: Bench) -> None:
    bench.give_back(await bench.carrier.connect(PORT))
    bench.carrier.retire()
    bench.carrier.retire()
    assert bench.carrier.streams == 0
    assert bench.ended == [bench.carrier]


async def test_a_closed_port_is_not_the_fault_of_the_way(bench: Bench) -> None:
    with pytest.raises(BackendConnectError) as refused:
        await bench.carrier.connect(PORT + 1)
    assert not refused.value.way_lost


async def test_nothing_is_opened_on_one_that_ended_or_owes_an_answer(bench: Bench) -> None:
    bench.tunnel.doubt(True)
    with pytest.raises(BackendConnectError) as stalled:
        await bench.carrier.connect(PORT)
    bench.tunnel.doubt(False)
    bench.tunnel.end(None)
    with pytest.raises(BackendConnectError) as ended:
        await bench.carrier.connect(PORT)
    assert stalled.value.way_lost
    assert ended.value.way_lost


async def test_a_queue_shows_in_how_long_streams_take_to_open(bench: Bench) -> None:
    """At its best an opening is a round trip; what comes on top has waited behind other things."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        (await bench.carrier.connect(PORT)).abort()
    assert not bench.carrier.is_queueing
    for _ in range(3):
        bench.tunnel.gate.clear()
        loop.call_later(3 * QUEUE_S, bench.tunnel.gate.set)
        (await bench.carrier.connect(PORT)).abort()
    assert bench.carrier.is_queueing
    for _ in range(6):
        (await bench.carrier.connect(PORT)).abort()
    assert not bench.carrier.is_queueing
