"""`/vastproxy/v1/cost` and `/vastproxy/v1/machines` by their routes, and what the overview says of both; with the jobs
that fill the ledger."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fleet_bench import FleetBench
from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.app import create_app
from vastproxy.api.http.entrance import Entrance
from vastproxy.jobs.ledger import LedgerJob
from vastproxy.services.events import MachineKnown, PathChanged
from vastproxy.services.ledger.ledger import Ledger

COST = b"/vastproxy/v1/cost"
MACHINES = b"/vastproxy/v1/machines"


class Clock:
    def __init__(self) -> None:
        self.now = float(HOUR)

    def __call__(self) -> float:
        return self.now


class Money:
    """A fleet in memory with a ledger, behind the routes of the application."""

    def __init__(self, path: Path | None) -> None:
        self.bench, self.clock = FleetBench(), Clock()
        self.fleet = self.bench.fleet
        self.ledger = self.fleet.account.ledger = Ledger(path, clock=self.clock, wall_clock=self.clock)
        self.job = LedgerJob(self.fleet)
        self._entrance: Entrance = create_app(self.fleet.settings, fleet=self.fleet).state.entrance

    async def serve(self, *ids: int) -> None:
        await self.bench.serve(*ids)
        await self.job.look()

    async def pass_time(self, seconds: int = 60) -> None:
        self.clock.now += seconds
        await self.job.look()

    async def ask(self, target: bytes) -> tuple[int | None, Any]:
        client = RecordingClient()
        self._entrance.handle(make_request(b"GET", target), client).begin(b"", complete=True)
        async with asyncio.timeout(5):
            while not client.ended:
                await asyncio.sleep(0.001)
        return client.status, json.loads(client.body)

    async def get(self, target: bytes) -> Any:
        status, document = await self.ask(target)
        assert status == 200, document
        return document


@pytest.fixture
async def money(tmp_path: Path) -> AsyncIterator[Money]:
    made = Money(tmp_path / "ledger.db")
    async with made.fleet:
        await made.serve(1, 2)
        yield made
        await made.job.aclose()


async def test_cost(money: Money) -> None:
    """Rent of all that is served; work for whoever had it done."""
    lease = money.bench.lease(pin=1)
    await money.pass_time(1800)
    money.bench.release(lease)
    money.ledger.note(make_entry())
    await money.pass_time(1)
    report = await money.get(COST + b"?since=all")
    assert report["total"]["hours"] == pytest.approx(2 * 1801 / 3600, abs=0.001)
    by_name = {row["name"]: row for row in report["rows"]}
    assert set(by_name) == {"1", "2"}
    assert by_name["1"]["idle_dollars"] < by_name["1"]["dollars"]
    assert (
        by_name["2"]["idle_dollars"] == by_name["2"]["dollars"] == pytest.approx(0.36 * 1801 / 3600, abs=1e-5)
    )
    models = await money.get(COST + b"?by=model&since=%d" % HOUR)
    assert [row["name"] for row in models["rows"]] == ["m", "(idle)"]
    assert models["since_unix"] == HOUR
    assert models["total"] == report["total"]


async def test_the_overview_has_the_sum_of_today(money: Money) -> None:
    await money.pass_time(1800)
    await money.job.write()
    totals = (await money.get(b"/vastproxy/v1/fleet"))["totals"]
    assert totals["cost_today_dollars"] == pytest.approx(0.36)
    assert totals["tokens_today"] == 0


async def test_a_backend_tells_of_its_machine(money: Money) -> None:
    rows = (await money.get(b"/vastproxy/v1/fleet"))["backends"]
    assert [row["machine"] for row in rows] == [None, None]
    await money.pass_time()
    await money.job.write()
    row = await money.get(b"/vastproxy/v1/backends/1")
    assert row["machine"]["machine_id"] == row["machine_id"] == 24817
    assert row["machine"]["rented_before"] is False, "its sibling is on the same machine, but not before it"


async def test_machines(money: Money) -> None:
    await money.pass_time()
    (machine,) = (await money.get(MACHINES))["machines"]
    assert (machine["machine_id"], machine["rentals"], machine["score"]) == (24817, 2, None)


def greeted(money: Money) -> list[tuple[int, int]]:
    return [
        (event.instance_id, event.machine_id)
        for event in money.bench.events
        if isinstance(event, MachineKnown)
    ]


async def test_a_machine_is_greeted_once(money: Money) -> None:
    assert money.ledger.path is not None
    earlier = busy_book(make_rented(9, machine_id=24817), start=HOUR - 7200)
    write_ledger(money.ledger.path, earlier, until=HOUR - 7000)
    for _ in range(3):
        await money.pass_time()
        await money.job.write()
    assert greeted(money) == [(1, 24817), (2, 24817)]


async def test_a_machine_is_not_greeted_for_a_sibling(money: Money) -> None:
    """Neither for those that were rented together, nor for one that is served before it was first noted."""
    await money.pass_time()
    await money.job.write()
    await money.bench.serve(1, 2, 3)
    await money.job.write()
    await money.pass_time()
    await money.job.write()
    assert greeted(money) == []


async def test_lost_ways_are_counted(money: Money) -> None:
    """Each instance loses the direct way that it has, one its relay, too; nothing is lost by one that is gone."""
    publish = money.fleet.events.publish
    for instance_id, path in ((1, "direct"), (1, "relay"), (1, None), (1, None), (9, "direct"), (9, None)):
        publish(PathChanged(instance_id, path, ""))
    publish(PathChanged(2, "relay", ""))
    publish(PathChanged(2, "direct", ""))
    await money.pass_time()
    (machine,) = (await money.get(MACHINES))["machines"]
    assert machine["tunnel_drops"] == 3


@pytest.mark.parametrize(
    ("query", "code"),
    [(b"?by=planet", "invalid_by"), (b"?by=", "invalid_by"), (b"?since=yesterday", "invalid_since")],
)
async def test_what_cannot_be_told_is_refused(money: Money, query: bytes, code: str) -> None:
    status, document = await money.ask(COST + query)
    assert (status, document["error"]["code"]) == (400, code)


@pytest.mark.parametrize("target", [COST, MACHINES])
async def test_without_a_ledger_it_says_why(target: bytes) -> None:
    money = Money(None)
    async with money.fleet:
        status, document = await money.ask(target)
        assert (status, document["error"]["code"]) == (503, "ledger_unavailable")
        assert "ledger.enabled" in document["error"]["message"]


async def test_the_job_runs_by_itself(tmp_path: Path) -> None:
    """Started and ended like any other; what was left is in the file then."""
    money = Money(tmp_path / "ledger.db")
    async with money.fleet:
        await money.bench.serve(1)
        money.job.start()
        money.ledger.note(make_entry())
        await money.job.aclose()
        assert not money.fleet.live.total_parts
        assert not money.fleet.live.row_parts
    assert (tmp_path / "ledger.db").exists()
    assert not money.ledger.book.entries


@pytest.mark.parametrize("is_on", [True, False])
async def test_machines_that_fail_are_given_less_work_if_that_is_wanted(money: Money, is_on: bool) -> None:
    settings = money.fleet.settings
    routing = settings.routing.model_copy(update={"machine_scores": is_on})
    money.fleet.settings = settings.model_copy(update={"routing": routing})
    for _ in range(60):
        money.fleet.events.publish(PathChanged(1, "direct", ""))
        money.fleet.events.publish(PathChanged(1, None, ""))
    await money.pass_time(3600)
    await money.job.write()
    await money.fleet.tend(1)
    (engine,) = money.fleet.live.backends[1].engines
    assert (engine.speed < 0.5) is is_on


async def test_backends_are_listed_with_their_machines(money: Money) -> None:
    await money.pass_time()
    await money.job.write()
    rows = (await money.get(b"/vastproxy/v1/backends"))["backends"]
    assert [row["machine"]["machine_id"] for row in rows] == [24817, 24817]
