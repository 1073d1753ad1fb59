"""One SSH connection and the HTTP connections on it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import Inside, MemoryTunnel
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import QUEUE_S, Carrier
from vastproxy.services.errors import BackendConnectError
from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.settings.model import UpstreamSettings

#: How long a stream takes to open decides here, and is not to be what the machine was busy with.
pytestmark = pytest.mark.virtual_time

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
    assert not bench.carrier.has_queued
    for _ in range(3):
        bench.tunnel.gate.clear()
        loop.call_later(3 * QUEUE_S, bench.tunnel.gate.set)
        (await bench.carrier.connect(PORT)).abort()
    assert bench.carrier.is_queueing
    for _ in range(6):
        (await bench.carrier.connect(PORT)).abort()
    assert not bench.carrier.is_queueing
    assert bench.carrier.has_queued


async def test_a_queue_is_seen_without_any_new_work(bench: Bench) -> None:
    """Where kept connections serve, nothing else is opened."""
    await bench.carrier.measure(PORT)
    assert not bench.carrier.is_queueing
    for _ in range(2):
        bench.tunnel.gate.clear()
        asyncio.get_running_loop().call_later(3 * QUEUE_S, bench.tunnel.gate.set)
        await bench.carrier.measure(PORT)
    assert bench.carrier.is_queueing
    assert bench.carrier.streams == 0


async def test_measuring_waits_in_no_line_and_raises_nothing(bench: Bench) -> None:
    bench.tunnel.gate.clear()
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(bench.carrier.connect(PORT))
        await asyncio.sleep(0)
        assert bench.carrier.busy == 1, "who waits for a stream is work, too"
        await bench.carrier.measure(PORT)
        bench.tunnel.gate.set()
    opening.result().abort()
    assert bench.carrier.busy == 0
    await bench.carrier.measure(PORT + 1)
    bench.tunnel.end(None)
    await bench.carrier.measure(PORT)


class Several:
    """A backend with two connections over the same path."""

    def __init__(self) -> None:
        address = SshAddress("192.0.2.7", 22, Path.DIRECT)
        self.tunnels = [MemoryTunnel(Inside(), address) for _ in range(2)]
        self.ways = [Carrier(each, UpstreamSettings(), end=lambda _: None) for each in self.tunnels]
        self.backend = Backend(
            make_instance(id=7), token=None, now=0.0, last_seen=1, on_event=lambda *event: None
        )
        self.backend.use(tuple(self.ways))

    async def queue(self, place: int) -> None:
        """Let what is sent on one of them wait."""
        for _ in range(2):
            self.tunnels[place].gate.clear()
            asyncio.get_running_loop().call_later(4 * QUEUE_S, self.tunnels[place].gate.set)
            await self.ways[place].measure(PORT)


@pytest.fixture
async def several() -> AsyncIterator[Several]:
    several = Several()
    yield several
    for tunnel in several.tunnels:
        await tunnel.close()


async def test_a_kept_connection_of_a_busier_way_is_left_alone(several: Several) -> None:
    """Else a way opened because another has too much to carry would never be used."""
    busy = [await several.ways[0].connect(PORT) for _ in range(3)]
    assert busy[0].home is not None
    busy[0].home.release(busy[0])
    assert several.backend.take(PORT) is None
    second = await several.backend.open(PORT)
    assert [way.busy for way in several.ways] == [2, 1]
    assert second.home is not None
    second.home.release(second)
    assert several.backend.take(PORT) is second


async def test_a_queue_weighs_as_many_requests(several: Several) -> None:
    """A few long answers fill a line that many streams of tokens do not. An empty connection has no queue."""
    for way in several.ways:
        await way.measure(PORT)
    for _ in range(3):
        await several.ways[0].connect(PORT)
    long_answer = await several.ways[1].connect(PORT)
    await several.queue(1)
    assert several.ways[1].load > 10 > several.ways[0].load >= 3
    await several.backend.open(PORT)
    assert [way.busy for way in several.ways] == [4, 1]
    long_answer.abort()
    assert several.ways[1].load == 0
    await several.backend.open(PORT)
    assert [way.busy for way in several.ways] == [4, 1]


async def test_a_burst_is_spread_before_its_streams_are_open(several: Several) -> None:
    for tunnel in several.tunnels:
        tunnel.gate.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(several.backend.open(PORT))
        await asyncio.sleep(0)
        assert [way.busy for way in several.ways] == [3, 3]
        for tunnel in several.tunnels:
            tunnel.gate.set()
    assert [way.busy for way in several.ways] == [3, 3]


async def test_a_burst_of_new_streams_is_no_queue(bench: Bench) -> None:
    """They wait for each other in this process; another connection would not help."""
    (await bench.carrier.connect(PORT)).abort()
    for _ in range(3):
        bench.tunnel.gate.clear()
        asyncio.get_running_loop().call_later(2 * QUEUE_S, bench.tunnel.gate.set)
        for connection in await asyncio.gather(*(bench.carrier.connect(PORT) for _ in range(20))):
            connection.abort()
        (await bench.carrier.connect(PORT)).abort()
    assert not bench.carrier.is_queueing


async def test_a_single_slow_stream_is_no_queue(bench: Bench) -> None:
    for _ in range(3):
        (await bench.carrier.connect(PORT)).abort()
        bench.tunnel.gate.clear()
        asyncio.get_running_loop().call_later(3 * QUEUE_S, bench.tunnel.gate.set)
        (await bench.carrier.connect(PORT)).abort()
        assert not bench.carrier.is_queueing
