"""The overview is made once for all who ask at about the same time, and put into words where it has changed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from vastproxy.api.fleet_page import FleetPages
from vastproxy.services.overview import Overview, Told


class Counting(Overview):
    """Counts how often it is asked."""

    heads = rows = 0

    def head(self) -> Told:
        self.heads += 1
        return super().head()

    def row(self, instance_id: int) -> Told:
        self.rows += 1
        return super().row(instance_id)


class Bench:
    def __init__(self, fleet: FleetBench) -> None:
        self.fleet = fleet.fleet
        self.now = 0.0
        self.overview = Counting(self.fleet, wall_clock=lambda: 1000.0 + self.now)
        self.pages = FleetPages(self.overview, lambda: self.fleet.backend_ids, clock=lambda: self.now)

    async def told(self, max_age_s: float = -1.0) -> tuple[int, dict[str, Any]]:
        page = await self.pages.page(max_age_s)
        return page.version, json.loads(page.body)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    fleet = FleetBench()
    async with fleet.fleet:
        await fleet.serve(1, 2, 3)
        yield Bench(fleet)


async def test_who_asks_within_its_age_gets_the_same_page(bench: Bench) -> None:
    first = await bench.pages.page(1.0)
    bench.now = 1.0
    assert await bench.pages.page(1.0) is first
    bench.now = 1.1
    assert await bench.pages.page(1.0) is not first
    assert (bench.overview.heads, bench.overview.rows) == (2, 6)


async def test_many_at_once_are_one_page(bench: Bench) -> None:
    pages = await asyncio.gather(*(bench.pages.page(0.5) for _ in range(32)))
    assert len({id(page) for page in pages}) == 1
    assert bench.overview.heads == 1


async def test_that_time_passes_is_no_change(bench: Bench) -> None:
    version, before = await bench.told()
    bench.now = 5.0
    same, after = await bench.told()
    assert same == version
    assert after["at_unix"] == before["at_unix"] + 5


async def test_every_change_is_one(bench: Bench) -> None:
    version, _ = await bench.told()
    changes: tuple[Callable[[], None], ...] = (
        lambda: bench.fleet.drain(2),
        lambda: setattr(bench.fleet.live.backends[1], "requests", 5),
        lambda: setattr(bench.fleet.live, "url", "http://x/v1"),
        lambda: bench.fleet.apply(
            (make_instance(id=1), make_instance(id=2, label="new"), make_instance(id=3))
        ),
    )
    for change in changes:
        change()
        before, (version, _) = version, await bench.told()
        assert version == before + 1
    _, told = await bench.told()
    assert [row["draining"] for row in told["backends"]] == [False, True, False]


async def test_a_backend_that_is_gone_is_off_the_page(bench: Bench) -> None:
    version, _ = await bench.told()
    for _ in range(2):
        bench.fleet.apply((make_instance(id=1), make_instance(id=3)))
    after, told = await bench.told()
    assert after == version + 1
    assert [row["id"] for row in told["backends"]] == [1, 3]


async def test_one_who_gives_up_waiting_spoils_nothing_for_others(bench: Bench) -> None:
    """A change that was seen by a page nobody got is a change for the next one."""
    version, _ = await bench.told()
    asking = asyncio.get_running_loop().create_task(bench.pages.page(-1.0))
    bench.fleet.drain(1)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    after, told = await bench.told()
    assert after > version
    assert told["backends"][0]["draining"] is True


async def test_it_is_one_event_of_one_line(bench: Bench) -> None:
    event = (await bench.pages.page(0.0)).event
    assert event.startswith(b"event: fleet\ndata: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 3
