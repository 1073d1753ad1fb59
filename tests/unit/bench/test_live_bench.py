"""The measure of the live figures measures what it says."""

import asyncio

from bench.live import best_cpu_s, measure_figures, measure_page
from tests.helpers.fleet_bench import FleetBench


async def test_all_of_it_is_measured() -> None:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1, 2)
        figures = [*measure_figures(bench.fleet, 2), *measure_page(bench.fleet, 2)]
    assert len(figures) == 6
    assert all(figure.value > 0 for figure in figures)
    assert {figure.size for figure in figures} == {2}


def test_nobody_else_has_a_turn_meanwhile() -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        for _ in range(3):
            await asyncio.sleep(0)
            turns += 1

    prepared = []
    assert best_cpu_s(work, before=lambda: prepared.append(turns), times=2) >= 0
    assert turns == 6 * len(prepared)
