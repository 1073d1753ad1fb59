"""Chaos on real parts: under steady mixed load everything breaks at random; each request must end as it should.

    python -m bench.chaos --minutes 10 --out bench/results/chaos.json

One `vastproxy serve`, four instances of real OpenSSH servers and engines that are processes, two models. Engines and
sshds are killed, frozen, slowed down, engines answer 503, 500, garbage or half of what they should, instances vanish
from the account, others are drained. Each answer is a function of its request, so every byte is checked: it is the
right one, or a correct error (429, 502, 503, 504 in OpenAI's shape, with Retry-After where it belongs; the engine's own
refusal as it is; a broken stream with an error event at its end). Nothing may hang, no engine may be given more than
its cap, nothing may be left when it is over.

Prints a table and exits with 1 if anything was incorrect.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.chaos_client import MIX, Clients
from bench.chaos_events import KINDS, Chaos, Incident
from bench.chaos_reading import Asked
from bench.chaos_stage import CAP, Arena, open_arena
from bench.chaos_verdict import Outcome, as_json, read_spans, table
from bench.console import say
from bench.machine import describe_machine, raise_file_limit
from bench.processes import BenchError
from bench.soak_watch import Sample, read_sample

_WARM_UP_S = 6.0
#: How long load goes on when all is well again.
_AFTERWARDS_S = 8.0
#: After so long without load pooled connections have been closed.
_REST_S = 6.0
_HEALTHY_LIMIT_S = 30.0
_SIGNS = ("Traceback", '"level":"error"', "never retrieved", "was never awaited", "Exception ignored")


@dataclass(slots=True)
class Plan:
    """One run. Times in seconds."""

    seconds: float = 600.0
    rate: float = 25.0
    workers: int = 3
    calm_s: float = 60.0
    seed: int = 1
    kinds: tuple[str, ...] = KINDS
    lasts: float = 1.0
    pause_s: tuple[float, float] = (1.0, 5.0)
    warm_up_s: float = _WARM_UP_S
    rest_s: float = _REST_S
    """Rest before the first look."""
    afterwards_s: float = _AFTERWARDS_S
    long_tokens: tuple[int, int] = (60, 160)


@dataclass(slots=True)
class Served:
    """When each instance began its latest correct answer."""

    _at: defaultdict[tuple[int | None, str | None], float] = field(
        default_factory=lambda: defaultdict(lambda: float("-inf"))
    )

    def note(self, asked: Asked) -> None:
        if asked.verdict == "correct" and asked.first_byte is not None:
            for key in ((asked.instance, asked.model), (asked.instance, None)):
                self._at[key] = max(self._at[key], asked.first_byte)

    def at(self, instance: int, model: str | None) -> float:
        return self._at[instance, model]


async def run(plan: Plan, directory: Path) -> Outcome:
    """All of it. Raises BenchError when the stage itself falls down."""
    outcome, rng, served = Outcome(), random.Random(plan.seed), Served()
    async with open_arena(directory) as arena:
        await _warm_up(plan, arena, rng)
        outcome.rest.append(await _sample_at_rest(arena, plan.rest_s))

        def on_end(asked: Asked) -> None:
            outcome.asked.append(asked)
            served.note(asked)

        clients = Clients(arena.proxy_port, on_end, random.Random(plan.seed + 1), plan.rate, plan.long_tokens)
        chaos = Chaos(arena, rng, served.at, say, pause_s=plan.pause_s, kinds=plan.kinds, lasts=plan.lasts)
        outcome.incidents = chaos.incidents
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(clients.run(stopping))
            try:
                await chaos.run(time.monotonic() + plan.seconds, workers=plan.workers)
                outcome.problems += await _not_healthy(arena)
                outcome.calm_from = time.monotonic()
                await asyncio.sleep(plan.afterwards_s)
            finally:
                stopping.set()
        outcome.rest.append(await _sample_at_rest(arena, plan.calm_s))
        outcome.problems += await _not_calm(arena)
        outcome.spans = [
            span for host in arena.hosts for one in host.engines for span in _spans(one.port, one.journal)
        ]
        log = arena.proxy.access_log
    outcome.access, problems = _read_log(log)
    outcome.problems += problems
    return outcome


async def _warm_up(plan: Plan, arena: Arena, rng: random.Random) -> None:
    """Some of each kind, so that what is loaded and cached at first does not count as growth."""
    seen: list[Asked] = []
    clients = Clients(arena.proxy_port, seen.append, rng, plan.rate, plan.long_tokens)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.run(stopping))
        for kind in MIX:
            group.create_task(clients.once(kind))
        await asyncio.sleep(plan.warm_up_s)
        stopping.set()
    clients.close()
    if wrong := [one for one in seen if one.verdict not in ("correct", "left")]:
        raise BenchError(f"before anything was broken: {wrong[0]}")


async def _sample_at_rest(arena: Arena, after_s: float) -> Sample:
    await asyncio.sleep(after_s)
    return read_sample(0.0, arena.pid, await arena.ask("/vastproxy/v1/process"))


async def _not_healthy(arena: Arena) -> list[str]:
    """Backends that are not healthy, after as long as they may take."""
    give_up = time.monotonic() + _HEALTHY_LIMIT_S
    while True:
        rows = (await arena.ask("/vastproxy/v1/backends"))["backends"]
        ids = {row["id"] for row in rows}
        sick = [f"{row['id']} is {row['state']}: {row['error']}" for row in rows if not _is_well(row)]
        sick += [f"{host.id} is not served" for host in arena.hosts if host.id not in ids]
        if not sick or time.monotonic() > give_up:
            return sick
        await asyncio.sleep(0.2)


def _is_well(row: dict[str, Any]) -> bool:
    return row["state"] == "healthy" and all(engine["healthy"] for engine in row["engines"])


async def _not_calm(arena: Arena) -> list[str]:
    """What there should not be when nobody asks any more."""
    found = await _not_healthy(arena)
    if in_flight := (await arena.ask("/vastproxy/v1/process"))["in_flight"]:
        found.append(f"{in_flight} requests in flight when all had ended")
    rows = (await arena.ask("/vastproxy/v1/backends"))["backends"]
    return found + [f"{row['id']} has {row['in_flight']} in flight" for row in rows if row["in_flight"]]


def _spans(engine: int, journal: Path) -> Sequence[Any]:
    lines = journal.read_text().splitlines() if journal.exists() else []
    return read_spans(engine, (json.loads(line) for line in lines))


def _read_log(log: Path | None) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The lines about requests for an engine, and those that should not be there."""
    access: list[Mapping[str, Any]] = []
    problems = []
    text = log.read_text(errors="replace") if log is not None and log.exists() else ""
    for line in text.splitlines():
        if any(sign in line for sign in _SIGNS):
            problems.append(f"log: {line[:300]}")
        elif '"logger":"vastproxy.access"' in line and '"/v1/' in line:
            with suppress(ValueError):
                access.append(json.loads(line))
    return access, problems[:20]


def _plan(arguments: argparse.Namespace) -> Plan:
    kinds = tuple(kind for kind in KINDS if not arguments.only or any(one in kind for one in arguments.only))
    return Plan(
        arguments.minutes * 60,
        arguments.rate,
        arguments.workers,
        arguments.calm,
        arguments.seed,
        kinds or KINDS,
    )


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="kinds of incidents: " + ", ".join(KINDS),
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=25.0, help="requests a second")
    parser.add_argument("--workers", type=int, default=3, help="incidents at the same time, at most")
    parser.add_argument("--calm", type=float, default=60.0, help="seconds of rest before the last look")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--only", nargs="*", help="only incidents whose kind has one of these in it")
    parser.add_argument("--out", type=Path, help="write the JSON here")
    parser.add_argument("--keep", type=Path, help="a folder for logs and journals, which stays")
    arguments = parser.parse_args()
    raise_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-chaos-", ignore_cleanup_errors=True) as name:
            directory = arguments.keep or Path(name)
            directory.mkdir(parents=True, exist_ok=True)
            outcome = uvloop.run(run(_plan(arguments), directory))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    if arguments.keep is not None:
        records: list[Asked | Incident] = [*outcome.asked, *outcome.incidents]
        (directory / "outcome.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in records))
    found = {
        **as_json(outcome, CAP),
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "rate": arguments.rate,
    }
    sys.stdout.write(table(found) + "\n")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({**found, "machine": describe_machine()}, indent=1) + "\n")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
