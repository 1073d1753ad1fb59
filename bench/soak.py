"""A flat line? Mixed load on one proxy over real OpenSSH servers, with kills, for as long as you like.

    python -m bench.soak --minutes 30                  the compiled build (scripts/compiled.sh)
    python -m bench.soak --minutes 30 --interpreted    the sources as they are

One `vastproxy serve`, three machines (sshd and engine each), an account whose API fails now and then. Clients of six
kinds ask all the time. Every half a minute or so something breaks: an sshd or an engine is killed and comes back, an
engine hangs, the API fails. Every 5 s the proxy's memory, descriptors, threads and tasks are read.

The verdict is bad (exit code 1) when a request fails for another reason than that it was in flight on the machine that
broke, when anything grows over the second half, when something is left at rest after the load that was not there
before it, or when the log holds a traceback. Prints a table, then one line of JSON; `--plot` draws the series.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.console import say
from bench.contenders.vastproxy import compiled_tree, interpreted_tree
from bench.machine import describe_machine, raise_file_limit
from bench.processes import BenchError
from bench.soak_chaos import Chaos, Incident
from bench.soak_client import Clients, Ended
from bench.soak_plot import draw
from bench.soak_stage import Stage, open_stage
from bench.soak_watch import Growth, Sample, judge, read_sample

SAMPLE_EVERY_S = 5.0
#: Clients of each kind for `--clients 1`.
MIX = {"small": 8, "stream": 40, "upload": 2, "slow": 6, "leaver": 8, "pipelined": 4}
#: At rest nothing is asked: pooled connections have been closed, and whoever left has been seen off.
REST_S = 8.0


@dataclass(slots=True)
class Outcome:
    """Everything that a soak has seen."""

    began: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    failures: list[Ended] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    rest: list[Sample] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    log_problems: list[str] = field(default_factory=list)

    def note(self, request: Ended) -> None:
        self.ended[request.kind] += 1
        if request.left:
            self.left[request.kind] += 1
        elif request.reason:
            self.failures.append(request)

    def excused(self) -> tuple[Counter[str], Counter[str]]:
        """Failures by kind and reason: those that an incident excuses, and the others."""
        fine: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        for one in self.failures:
            by = next((incident.kind for incident in self.incidents if incident.excuses(one)), None)
            if by is None:
                bad[f"{one.kind}: {one.reason}"] += 1
            else:
                fine[f"{by}: {one.reason}"] += 1
        return fine, bad


async def soak(arguments: argparse.Namespace, directory: Path) -> Outcome:
    """Run it. Raises BenchError when the stage itself falls down."""
    outcome, rng = Outcome(), random.Random(arguments.seed)
    tree = interpreted_tree() if arguments.interpreted else compiled_tree()
    async with open_stage(directory, arguments.machines, tree) as stage:
        await _warm_up(stage, rng)
        outcome.rest.append(await _sample_at_rest(stage))
        clients = Clients(stage.port, outcome.note, rng)
        chaos = Chaos(stage, rng, (arguments.kill_every[0], arguments.kill_every[1]), say)
        outcome.began = time.monotonic()
        until = outcome.began + arguments.minutes * 60
        async with asyncio.TaskGroup() as group:
            for kind, count in MIX.items():
                for _ in range(max(1, round(count * arguments.clients))):
                    group.create_task(clients.run(kind))
            group.create_task(_watch(stage, outcome, until))
            try:
                await chaos.run(until)
                await asyncio.sleep(max(0.0, until - time.monotonic()))
            finally:
                outcome.incidents = chaos.incidents
                clients.stopping.set()
        await stage.wait_all_healthy()
        outcome.rest.append(await _sample_at_rest(stage))
        log = stage.proxy.access_log
    outcome.log_problems = _problems(log)
    return outcome


async def _warm_up(stage: Stage, rng: random.Random) -> None:
    """One request of each kind, so that what is loaded and cached at first does not count as growth."""
    unseen = Outcome()
    clients = Clients(stage.port, unseen.note, rng)
    clients.stopping.set()
    async with asyncio.TaskGroup() as group:
        for kind in MIX:
            group.create_task(clients.once(kind))
    if unseen.failures:
        raise BenchError(f"before anything was broken: {unseen.failures[0]}")


async def _sample_at_rest(stage: Stage) -> Sample:
    await asyncio.sleep(REST_S)
    return read_sample(0.0, stage.pid, await stage.ask_process())


async def _watch(stage: Stage, outcome: Outcome, until: float) -> None:
    while time.monotonic() < until:
        process = await stage.ask_process()
        outcome.samples.append(read_sample(time.monotonic() - outcome.began, stage.pid, process))
        await asyncio.sleep(SAMPLE_EVERY_S)


def _problems(log: Path | None) -> list[str]:
    """Lines of the proxy's log that should not be there."""
    if log is None or not log.exists():
        return ["the proxy wrote no log"]
    signs = ("Traceback", " error ", "never retrieved", "was never awaited", "Exception ignored")
    with log.open(errors="replace") as lines:
        return [line.strip()[:300] for line in lines if any(sign in line for sign in signs)][:20]


def as_json(arguments: argparse.Namespace, outcome: Outcome, growths: Sequence[Growth]) -> dict[str, Any]:
    """Everything for programs."""
    fine, bad = outcome.excused()
    return {
        "bench": "soak",
        "minutes": arguments.minutes,
        "build": "interpreted" if arguments.interpreted else "compiled",
        "machines": arguments.machines,
        "requests": dict(outcome.ended),
        "left": dict(outcome.left),
        "failures_excused": dict(fine),
        "failures_not_excused": dict(bad),
        "incidents": Counter(incident.kind for incident in outcome.incidents),
        "growth": [{**asdict(one), "is_flat": one.is_flat} for one in growths],
        "log_problems": outcome.log_problems,
        "samples": [asdict(one) for one in outcome.samples],
        "machine": describe_machine(),
    }


def table(outcome: Outcome, growths: Sequence[Growth]) -> str:
    """The verdict for people."""
    fine, bad = outcome.excused()
    lines = [
        f"{sum(outcome.ended.values())} requests: {dict(outcome.ended)}; left by the client: {dict(outcome.left)}"
    ]
    lines.append(
        f"{len(outcome.incidents)} incidents: {dict(Counter(one.kind for one in outcome.incidents))}"
    )
    lines += [f"  excused      {count:>6}  {what}" for what, count in sorted(fine.items())]
    lines += [f"  NOT EXCUSED  {count:>6}  {what}" for what, count in sorted(bad.items())]
    for one in growths:
        rest = (
            ""
            if one.at_rest is None
            else f", at rest {one.at_rest[0]:.1f} before and {one.at_rest[1]:.1f} after"
        )
        lines.append(
            f"  {one.series:<8} {'flat ' if one.is_flat else 'GROWS'} mean {one.mean:.1f}, {one.growth:+.2f} over the "
            f"second half (allowed {one.allowed:.1f}){rest}"
        )
    lines += [f"  LOG: {line}" for line in outcome.log_problems]
    return "\n".join(lines)


def is_good(outcome: Outcome, growths: Sequence[Growth]) -> bool:
    """No failure that nothing excuses, nothing that grows, nothing in the log."""
    return not outcome.excused()[1] and not outcome.log_problems and all(one.is_flat for one in growths)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=float, default=1.0, help=f"times {MIX}")
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--kill-every", type=float, nargs=2, default=(20.0, 60.0), metavar=("MIN_S", "MAX_S"))
    parser.add_argument("--interpreted", action="store_true", help="not the compiled build")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    parser.add_argument("--plot", type=Path, help="draw the series as SVG")
    arguments = parser.parse_args()
    raise_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-soak-", ignore_cleanup_errors=True) as name:
            outcome = uvloop.run(soak(arguments, Path(name)))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    growths = judge(outcome.samples, (outcome.rest[0], outcome.rest[1]))
    text = json.dumps(as_json(arguments, outcome, growths))
    sys.stdout.write(f"{table(outcome, growths)}\n{text}\n")
    title = f"{arguments.minutes:g} minutes of mixed load with kills"
    picture = draw(outcome.samples, outcome.incidents, outcome.began, title)
    for path, content in ((arguments.json, text + "\n"), (arguments.plot, picture)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return 0 if is_good(outcome, growths) else 1


if __name__ == "__main__":
    sys.exit(main())
