"""Who takes turns: kept up to date by small changes, never different from what the backends' states say."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from vastproxy.services.backends.state import Event


@pytest.fixture
async def bench() -> AsyncIterator[FleetBench]:
    bench = FleetBench()
    async with bench.fleet:
        yield bench


async def _disturb(bench: FleetBench, rng: random.Random) -> None:
    """Something that happens to a fleet of up to five instances."""
    id = rng.choice([1, 2, 3, 4, 5])
    known = id in bench.fleet.backend_ids
    match rng.choice(["tend", "tend", "lose", "drain", "undrain", "vanish", "appear", "ill", "well"]):
        case "tend":
            await bench.fleet.tend(id)
        case "lose" if bench.engine.made:
            rng.choice(bench.engine.made).end(None)
        case "drain" if known:
            bench.fleet.drain(id)
        case "undrain" if known:
            bench.fleet.undrain(id)
        case "vanish":
            bench.account.instances = [one for one in bench.account.instances if one.id != id]
            await bench.fleet.sync()
            await bench.fleet.sync()
        case "appear":
            bench.account.instances = [*(one for one in bench.account.instances if one.id != id)]
            bench.account.instances.append(make_instance(id=id))
            await bench.fleet.sync()
        case "ill":
            bench.engine.inside.listening = False
        case "well":
            bench.engine.inside.listening = True
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(12))
async def test_exactly_the_healthy_ones_take_turns_whatever_happened_before(
    bench: FleetBench, seed: int
) -> None:
    """Who may serve is kept up to date by small changes; it never differs from what the states say."""
    rng = random.Random(seed)
    await bench.serve(1, 2, 3)
    for _ in range(80):
        await _disturb(bench, rng)
        healthy = sorted(id for id, state in bench.states().items() if state == "healthy")
        leased = [bench.lease() for _ in healthy]
        assert sorted(lease.backend.id for lease in leased) == healthy
        assert bench.fleet.can_serve is bool(healthy)
        for lease in leased:
            bench.release(lease)


async def test_one_that_leaves_does_not_take_its_successor_with_it(bench: FleetBench) -> None:
    """An instance that is back under its id before the old backend has ended is served all the same."""
    await bench.serve(1)
    old = bench.lease()
    bench.account.instances = []
    await bench.fleet.sync()
    await bench.fleet.sync()
    await bench.serve(1)
    assert bench.lease().backend is not old.backend
    old.backend.step(Event.TUNNEL_LOST, 0.0)
    assert bench.lease().backend is not old.backend
    bench.release(old)
