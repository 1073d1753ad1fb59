"""The live stream for one reader at a time: signs of life, one overview for all, and no word to who may not read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from starlette.requests import Request

from tests.helpers.fleet_bench import FleetBench
from vastproxy.api.fleet_page import FleetPages
from vastproxy.api.live import LiveEndpoint
from vastproxy.services.events import LabelWritten
from vastproxy.services.overview import Overview
from vastproxy.services.tasks import Tasks

REQUEST = cast(Request, None)


class Counting(Overview):
    heads = 0

    def head(self) -> Any:
        self.heads += 1
        return super().head()


class Bench:
    """An endpoint, and readers in the process."""

    def __init__(self, bench: FleetBench, tasks: Tasks) -> None:
        self.fleet = bench.fleet
        self.tasks = tasks
        self.overview = Counting(self.fleet)
        self.is_admitted = True
        pages = FleetPages(self.overview, lambda: self.fleet.backend_ids)
        self.endpoint = LiveEndpoint(
            self.fleet, pages, tasks, admits=lambda _: self.is_admitted, still_s=0.02
        )

    def read(self, every_s: float = 60.0) -> "Reader":
        reader = Reader()
        reader.task = self.tasks.spawn(
            self.endpoint.serve(REQUEST, reader.receive, reader.send, every_s, None), name="reads"
        )
        return reader


class Reader:
    task: "asyncio.Task[None]"

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.got: list[bytes] = []
        self.news = asyncio.Event()
        self.ended = False

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.got.append(message["body"])
            self.ended = not message["more_body"]
            self.news.set()

    def count(self, piece: bytes) -> int:
        return sum(data.startswith(piece) for data in self.got)

    async def until(self, piece: bytes, count: int = 1) -> None:
        async with asyncio.timeout(5):
            while self.count(piece) < count:
                self.news.clear()
                await self.news.wait()

    async def end(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.wait([self.task])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fleet, tasks = FleetBench(), Tasks("test")
    async with fleet.fleet:
        await fleet.serve(1, 2)
        bench = Bench(fleet, tasks)
        yield bench
        bench.endpoint.close()
        await tasks.aclose()
    assert bench.endpoint.readers == fleet.fleet.events.streams == 0


async def test_a_silent_stream_gives_signs_of_life(bench: Bench) -> None:
    reader = bench.read()
    await reader.until(b": still", 3)
    assert reader.count(b"event: fleet") == 1


async def test_who_may_not_read_any_more_is_told_nothing_more(bench: Bench) -> None:
    reader = bench.read()
    await reader.until(b": still")
    bench.is_admitted = False
    await reader.end()
    assert reader.ended


async def test_also_in_a_storm_of_events_keys_are_looked_at(bench: Bench) -> None:
    reader = bench.read(0.2)
    await reader.until(b"event: fleet")
    bench.is_admitted = False
    async with asyncio.timeout(5):
        while not reader.ended:
            bench.fleet.events.publish(LabelWritten(1, "x"))
            await asyncio.sleep(0)


async def test_all_readers_share_one_overview(bench: Bench) -> None:
    readers = [bench.read(60.0) for _ in range(10)]
    for reader in readers:
        await reader.until(b"event: fleet")
    assert bench.overview.heads == 1
    (frames,) = {id(data) for reader in readers for data in reader.got if data.startswith(b"event: fleet")}
    assert frames


async def test_one_who_leaves_is_gone_at_once(bench: Bench) -> None:
    reader = bench.read()
    await reader.until(b"event: fleet")
    reader.left.set()
    await reader.end()
    assert bench.endpoint.readers == bench.fleet.events.streams == 0


async def test_the_end_of_the_server_is_the_end_of_streams(bench: Bench) -> None:
    reader = bench.read()
    await reader.until(b"event: fleet")
    bench.endpoint.close()
    await reader.end()
    assert reader.ended
