"""What the live figures cost: kept up while nobody looks, and put on a page for those who do.

    python -m bench.live                       a table, then the same as one line of JSON
    python -m bench.live --sizes 1000

The figures are kept up by a tick twice a second; each twentieth ends a step of the history and looks at each backend. A
page is the overview of the fleet, made once for all readers, at most as often as the most impatient of them asks.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from bench.figure import Figure, as_json, table
from bench.metrics import _count_requests, _fill
from bench.probed import probed_engine
from bench.scale import SIZES
from bench.scale_fleet import GPUS, make_healthy, plain_fleet
from vastproxy.api.fleet_page import FleetPages
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.fleet import Fleet
from vastproxy.services.live.history import STEP_S
from vastproxy.services.live.live import TICK_S, Live
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.overview import Overview

TICKS = 2_000
REPEATS = 10
#: Requests that have ended between two ticks of a busy proxy, and streams that run all the while.
ENDED = 500
RUNNING = 500


def best_cpu_s(
    work: Callable[[], Coroutine[Any, Any, object]],
    *,
    before: Callable[[], None] = lambda: None,
    times: int = 1,
) -> float:
    """CPU for one call, the best of `REPEATS` rounds of `times`. Nobody else has a turn meanwhile."""
    best = float("inf")
    for _ in range(REPEATS):
        before()
        began = time.thread_time()
        for _ in range(times):
            _drive(work())
        best = min(best, (time.thread_time() - began) / times)
    return best


def _drive(work: Coroutine[Any, Any, object]) -> None:
    """Run it to its end, without a pause where it lets others have a turn."""
    try:
        while True:
            work.send(None)
    except StopIteration:
        pass


class Clock:
    """The real one, and what the bench adds to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


def figures_of(fleet: Fleet, clock: Clock) -> Live:
    """Figures of this fleet, over that clock."""
    live = Live(fleet.live.backends, fleet.dispatcher, fleet.traces, lambda _: None, clock=clock)
    requests = RequestMetrics()
    _count_requests(requests, fleet.backend_ids)
    live.follow(requests)
    return live


def measure_figures(fleet: Fleet, count: int) -> list[Figure]:
    """Ticks: idle, busy, and at the end of a step."""
    clock = Clock()
    live = figures_of(fleet, clock)
    _drive(live.tick())
    idle_s = best_cpu_s(live.tick, times=TICKS)

    def let_pass() -> None:
        clock.ahead_s += STEP_S

    step_s = best_cpu_s(live.tick, before=let_pass)

    def make_requests() -> None:
        for _ in range(ENDED):
            claim = Claim(1.0, b"r", b"POST", b"/v1/chat/completions")
            claim.status, claim.ended_at = 200, 2.0
            fleet.traces.keep(claim)

    for _ in range(RUNNING):
        fleet.traces.keep(Claim(1.0, b"r", b"POST", b"/v1/chat/completions"))
    busy_s = best_cpu_s(live.tick, before=make_requests)
    each_second = idle_s / TICK_S + step_s / STEP_S
    return [
        Figure("figures: a tick while nothing happens", count, idle_s * 1e6, "µs"),
        Figure(f"figures: a tick, {ENDED} ended, {RUNNING} running", count, busy_s * 1e6, "µs"),
        Figure("figures: the end of a step of 10 s", count, step_s * 1e3, "ms"),
        Figure("figures: CPU while nobody looks", count, each_second * 100, "% of a core"),
    ]


def measure_page(fleet: Fleet, count: int) -> list[Figure]:
    """Pages: all new, and one on which nothing has changed."""
    overview, size = Overview(fleet), 0

    async def first() -> None:
        nonlocal size
        size = len((await FleetPages(overview, lambda: fleet.backend_ids).page(-1.0)).event)

    pages = FleetPages(overview, lambda: fleet.backend_ids)
    first_s = best_cpu_s(first)
    again_s = best_cpu_s(lambda: pages.page(-1.0))
    return [
        Figure(
            "overview: all of it new", count, first_s * 1e3, "ms", f"{size / 1e6:.2f} MB, {GPUS} GPUs each"
        ),
        Figure("overview: nothing has changed", count, again_s * 1e3, "ms"),
    ]


async def measure(sizes: list[int]) -> list[Figure]:
    """All of it."""
    figures: list[Figure] = []
    with probed_engine() as port:
        for count in sizes:
            fleet, _, _ = plain_fleet(count, port)
            async with fleet:
                await make_healthy(fleet)
                _fill(fleet)
                figures += measure_figures(fleet, count)
                figures += measure_page(fleet, count)
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="backends (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    figures = uvloop.run(measure(arguments.sizes))
    text = json.dumps(as_json("live", "backends", figures))
    sys.stdout.write(f"{table(figures)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
