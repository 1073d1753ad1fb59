"""Is losing a path a non-event? The direct path dies and returns, again and again, under a steady load.

    python -m bench.cycles --cycles 100

One `vastproxy serve`, a machine with two ways to it: the direct address and vast.ai's relay, which are two TCP relays
before one sshd. In each cycle the direct way breaks, in turn by a reset after which it refuses connections, and by
freezing so that nobody says anything. New questions are asked until one is answered, which takes the other way. Some
seconds later the direct way returns, and the next cycle begins when requests take it again. All the time clients ask,
with engines that think up to --think seconds before the first byte.

The verdict is bad (exit code 1) when a plain request fails, when a stream fails of which nothing had been sent, when
the other way did not serve in time, or when descriptors, tasks or threads are left behind. Streams that break after
their first byte are counted; nobody can put them together again. Prints a table, then one line of JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.console import say
from bench.cycles_client import Asked, Clients
from bench.cycles_figures import (
    GOAL_S,
    Cycle,
    count_requests,
    describe_kind,
    left_behind,
    reasons,
    table,
    verdicts,
)
from bench.cycles_stage import Crossroads, Ways, open_crossroads
from bench.machine import describe_machine, raise_file_limit
from bench.processes import BenchError
from bench.soak import REST_S
from bench.soak_watch import Sample, read_sample
from tests.helpers.faulty_relay import Side

#: How long the direct way is away at least: long enough that it counts as dead and another is found.
OUTAGE_S = {"reset": 3.0, "freeze": 25.0}
#: How long a cycle waits for the other way to serve, and then for the direct one to be used again.
SERVED_LIMIT_S = 60.0
DIRECT_LIMIT_S = 90.0
#: An answer so long shows by which way it came.
_CANARY_BYTES = 300_000


@dataclass(slots=True)
class Outcome:
    """Everything that a run has seen."""

    asked: list[Asked] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)
    rest: list[Sample] = field(default_factory=list)
    log_problems: list[str] = field(default_factory=list)


class Run:
    """The cycles of one run."""

    def __init__(self, arguments: argparse.Namespace, crossroads: Crossroads, outcome: Outcome) -> None:
        self._arguments = arguments
        self._crossroads = crossroads
        self._outcome = outcome
        self._rng = random.Random(arguments.seed)
        self._news = asyncio.Event()
        port = crossroads.stage.port
        self._clients = Clients(port, self._note, self._rng, arguments.think)

    async def run(self) -> None:
        """All cycles under load, with a look at the proxy at rest before and after. Raises BenchError."""
        await self._warm_up()
        await self._look_at_rest()
        kinds = self._arguments.kinds
        until = time.monotonic() + self._arguments.minutes * 60
        fallen: BenchError | None = None  # as it is, and not in the task group's wrapping
        async with asyncio.TaskGroup() as group:
            clients = [self._clients.plain] * self._arguments.plain
            clients += [self._clients.streams] * self._arguments.streams
            for client in clients:
                group.create_task(client())
            try:
                for number in range(self._arguments.cycles):
                    if time.monotonic() >= until:
                        say(f"time is up after {number} cycles")
                        break
                    await self._cycle(group, number, kinds[number % len(kinds)])
            except BenchError as error:
                fallen = error
            finally:
                self._clients.stopping.set()
        if fallen is not None:
            raise fallen
        await self._crossroads.stage.wait_all_healthy()
        await self._look_at_rest()

    async def _warm_up(self) -> None:
        """What is loaded and cached at first does not count as left behind."""
        for ways in self._crossroads.ways:
            await self._until_direct(ways)
        if failed := [one for one in self._outcome.asked if not one.is_good]:
            raise BenchError(f"before anything was broken: {failed[0]}")

    async def _look_at_rest(self) -> None:
        await asyncio.sleep(REST_S)
        stage = self._crossroads.stage
        self._outcome.rest.append(read_sample(0.0, stage.pid, await stage.ask_process()))

    def _note(self, asked: Asked) -> None:
        self._outcome.asked.append(asked)
        self._news.set()

    async def _cycle(self, group: asyncio.TaskGroup, number: int, kind: str) -> None:
        """One death and return."""
        await asyncio.sleep(self._rng.uniform(0.5, 1.5))
        ways = self._crossroads.ways[number % len(self._crossroads.ways)]
        cycle = Cycle(kind, ways.instance, time.monotonic())
        self._outcome.cycles.append(cycle)
        _break(ways, kind)
        served_at = await self._served_again(group, cycle)
        cycle.served_after_s = None if served_at is None else served_at - cycle.killed_at
        outage_s = time.monotonic() - cycle.killed_at
        await asyncio.sleep(max(self._arguments.hold, OUTAGE_S[kind] - outage_s))
        cycle.returned_at = time.monotonic()
        ways.direct.heal()
        await self._until_direct(ways)
        cycle.direct_after_s = time.monotonic() - cycle.returned_at
        shown = "not in time" if cycle.served_after_s is None else f"after {cycle.served_after_s:.2f} s"
        say(f"{number + 1}: {kind}: served again {shown}, direct again after {cycle.direct_after_s:.1f} s")

    async def _served_again(self, group: asyncio.TaskGroup, cycle: Cycle) -> float | None:
        """Ask anew again and again, until what began after the death has been answered by that machine."""
        seen = len(self._outcome.asked)
        while (passed_s := time.monotonic() - cycle.killed_at) < SERVED_LIMIT_S:
            group.create_task(self._clients.once("probe"))
            pause_until = time.monotonic() + (0.05 if passed_s < 2 else 0.25)
            while (left_s := pause_until - time.monotonic()) > 0:
                for one in self._outcome.asked[seen:]:
                    seen += 1
                    if one.is_good and one.instance == cycle.instance and one.began >= cycle.killed_at:
                        return one.ended
                await self._wait_for_news(left_s)
        return None

    async def _wait_for_news(self, limit_s: float) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        except TimeoutError:
            pass  # time to ask again

    async def _until_direct(self, ways: Ways) -> None:
        """Until a long answer of that machine comes over its direct path. Raises BenchError."""
        try:
            async with asyncio.timeout(DIRECT_LIMIT_S):
                while True:
                    before = ways.direct.forwarded[Side.CLIENT]
                    asked = await self._clients.once("canary", answer_bytes=_CANARY_BYTES)
                    came = ways.direct.forwarded[Side.CLIENT] - before
                    if asked.is_good and asked.instance == ways.instance and came >= _CANARY_BYTES:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise BenchError(
                f"the direct path of {ways.instance} was not used within {DIRECT_LIMIT_S:g} s"
            ) from None


def _break(ways: Ways, kind: str) -> None:
    if kind == "freeze":
        ways.direct.freeze()
    else:
        ways.direct.refuse()
        ways.direct.reset()


async def cycle(arguments: argparse.Namespace, directory: Path) -> Outcome:
    """Run it. Raises BenchError when the stage itself falls down."""
    outcome = Outcome()
    async with open_crossroads(directory, arguments.machines) as crossroads:
        await Run(arguments, crossroads, outcome).run()
        log = crossroads.stage.proxy.access_log
    outcome.log_problems = _problems(log)
    return outcome


def _problems(log: Path | None) -> list[str]:
    """Lines of the proxy's log that should not be there."""
    if log is None or not log.exists():
        return ["the proxy wrote no log"]
    signs = ("Traceback", " error ", "never retrieved", "was never awaited", "Exception ignored")
    with log.open(errors="replace") as lines:
        return [line.strip()[:300] for line in lines if any(sign in line for sign in signs)][:20]


def describe(arguments: argparse.Namespace, outcome: Outcome) -> dict[str, Any]:
    """Everything for programs."""
    kinds = {kind: describe_kind(kind, outcome.asked, outcome.cycles) for kind in arguments.kinds}
    left = left_behind(*outcome.rest)
    return {
        "bench": "cycles",
        "cycles": len(outcome.cycles),
        "machines": arguments.machines,
        "clients": {"plain": arguments.plain, "streams": arguments.streams, "think_s": arguments.think},
        "requests": count_requests(outcome.asked),
        "kinds": kinds,
        "failures": reasons(outcome.asked, outcome.cycles),
        "left": left,
        "log_problems": outcome.log_problems,
        "goals": verdicts(kinds, left),
        "each_cycle": [asdict(one) for one in outcome.cycles],
        "machine": describe_machine(),
    }


def _kinds(text: str) -> Sequence[str]:
    kinds = [word.strip() for word in text.split(",") if word.strip()]
    if not kinds or any(kind not in GOAL_S for kind in kinds):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(GOAL_S)}, not {text!r}")
    return kinds


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, not {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cycles",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cycles", type=_count, default=100)
    parser.add_argument("--minutes", type=float, default=120.0, help="begin no cycle after so long")
    parser.add_argument("--kinds", type=_kinds, default=list(GOAL_S), help="of deaths, in turn: reset,freeze")
    parser.add_argument(
        "--machines", type=_count, default=1, help="they break in turn (default: %(default)s)"
    )
    parser.add_argument("--plain", type=_count, default=8, help="clients that ask without streaming")
    parser.add_argument("--streams", type=_count, default=24, help="clients that stream")
    parser.add_argument(
        "--think", type=float, default=0.5, help="longest silence before an answer, in seconds"
    )
    parser.add_argument(
        "--hold", type=float, default=1.0, help="least seconds that the other way serves alone"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    return parser


def main() -> int:
    """Returns the exit code."""
    arguments = _parser().parse_args()
    raise_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-cycles-", ignore_cleanup_errors=True) as name:
            outcome = uvloop.run(cycle(arguments, Path(name)))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    report = describe(arguments, outcome)
    text = json.dumps(report)
    sys.stdout.write(f"{table(report)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    return 0 if all(report["goals"].values()) and not report["log_problems"] else 1


if __name__ == "__main__":
    sys.exit(main())
