"""What a large fleet costs: choosing a backend, probing them all, reading the account, telling about it.

    python -m bench.scale                      a table, then the same as one line of JSON
    python -m bench.scale --ssh-backends 0     without the part over real OpenSSH servers

Everything runs in this process, with the fleet, its keepers and its jobs as they are; engines (and sshd) run in others.
CPU is that of this process, user and system. A share of a core is CPU time over wall time at the default intervals.
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import uvloop
from starlette.responses import JSONResponse

from bench.figure import Figure, as_json, table
from bench.plain_tunnel import PlainEngine
from bench.probed import probed_engine
from bench.scale_fleet import GPUS, ListedAccount, make_healthy, plain_fleet
from bench.scale_ssh import probe_over_ssh
from vastproxy.jobs.probe import ProbeJob
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.state import Event
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.fleet import Fleet

SIZES = [3, 100, 1000]
LEASES = 20_000
REPEATS = 5
#: Rounds that are probed before it counts, so that the timers have spread.
_SPREAD_ROUNDS = 2


def best_us(work: Callable[[], object], *, times: int) -> float:
    """µs of CPU for one `work`: the best of a few runs, as other work of the machine only adds."""
    runs = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(times):
            work()
        runs.append((time.process_time() - began) / times * 1e6)
    return min(runs)


async def measure_size(count: int, port: int) -> list[Figure]:
    """What depends on the size alone: lease, snapshots, sync."""
    fleet, _, account = plain_fleet(count, port)
    async with fleet:
        await make_healthy(fleet)
        claim = Claim()
        lease = fleet.dispatcher.ask(claim)
        assert lease is not None
        some = lease.backend
        looks = max(3, 3000 // count)
        return [
            Figure("lease and release", count, best_us(lambda: _serve_one(fleet), times=LEASES), "µs"),
            Figure("a good probe reported", count, best_us(lambda: _report(some), times=LEASES), "µs"),
            Figure("/healthz", count, best_us(fleet.summary, times=looks), "µs"),
            Figure("/vastproxy/v1/backends", count, best_us(lambda: _backends(fleet), times=looks), "µs"),
            Figure("/v1/models", count, best_us(fleet.models, times=looks), "µs"),
            *await _measure_sync(fleet, account, count),
        ]


def _serve_one(fleet: Fleet) -> None:
    claim = Claim()
    fleet.dispatcher.ask(claim)
    fleet.dispatcher.finish(claim)


def _report(backend: Backend) -> None:
    backend.step(Event.SERVING, 0.0)


def _backends(fleet: Fleet) -> bytes:
    rows = [backend.to_json() for backend in fleet.snapshot().backends]
    return bytes(JSONResponse({"backends": rows}).body)


async def _measure_sync(fleet: Fleet, account: ListedAccount, count: int) -> list[Figure]:
    interval_s = fleet.settings.fleet.poll_interval_s
    cpu, held = [], []
    for _ in range(REPEATS):
        before = time.process_time()
        instances = account.list_instances()
        began = time.thread_time()
        fleet.apply(tuple(instances))
        await asyncio.sleep(0)  # labels look at once
        held.append((time.thread_time() - began) * 1e3)
        cpu.append(time.process_time() - before)
    share = min(cpu) / interval_s * 100
    return [
        Figure("sync: the loop is held", count, min(held), "ms", "no request moves meanwhile"),
        Figure("sync: CPU, parsing included", count, share, "% of a core", f"every {interval_s:g} s"),
    ]


async def measure_probing(count: int, port: int, seconds: float) -> list[Figure]:
    """The fleet with its probe job at the default intervals, watched for a while."""
    fleet, engine, _ = plain_fleet(count, port)
    probe = ProbeJob(fleet)
    async with fleet:
        await make_healthy(fleet)
        probe.start()
        await asyncio.sleep(_SPREAD_ROUNDS * fleet.settings.fleet.probe_interval_s)
        before, late_ms = _asked(engine), list[float]()
        cpu, wall = time.process_time(), time.perf_counter()
        while time.perf_counter() - wall < seconds:
            due = time.perf_counter() + 0.01
            await asyncio.sleep(0.01)
            late_ms.append((time.perf_counter() - due) * 1e3)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        streams, commands = (now - then for now, then in zip(_asked(engine), before, strict=True))
        await probe.aclose()
        assert fleet.summary().backends["healthy"] == count
    note = f"{streams / wall:.0f} requests/s, {commands / wall:.0f} nvidia-smi/s with {GPUS} GPUs each"
    p99 = statistics.quantiles(late_ms, n=100)[98] if len(late_ms) > 100 else math.nan
    return [
        Figure("probing without SSH", count, cpu / wall * 100, "% of a core", note),
        Figure("probing without SSH: loop late, p99", count, p99, "ms"),
    ]


def _asked(engine: PlainEngine) -> tuple[int, int]:
    """Streams opened and commands run so far, in all instances."""
    tunnels = engine.tunnels
    return sum(one.streams for one in tunnels), sum(one.commands for one in tunnels)


async def measure(arguments: argparse.Namespace) -> list[Figure]:
    """All that was asked for."""
    figures: list[Figure] = []
    with probed_engine() as port:
        for count in arguments.sizes:
            figures += await measure_size(count, port)
        figures += await measure_probing(max(arguments.sizes), port, arguments.seconds)
        if arguments.ssh_backends:
            figures += await probe_over_ssh(arguments.ssh_backends, port, arguments.seconds)
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="backends (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long probing is watched (default: %(default)g)"
    )
    parser.add_argument(
        "--ssh-backends",
        type=int,
        default=64,
        help="real SSH connections that stand for a thousand (default: %(default)s; 0: none)",
    )
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    figures = uvloop.run(measure(arguments))
    text = json.dumps(as_json("scale", "backends", figures))
    sys.stdout.write(f"{table(figures)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
