"""Which policy for which work: a discrete simulation of a mixed fleet, with the policies as they are.

    python -m bench.policies                          a table
    python -m bench.policies --json FILE --plot FILE  the same as JSON and as a picture
    python -m bench.policies --seed 7 --load 0.5      other draws, half as many requests

Four RTX 4090s, an H100 and a slow RTX A5000 serve an 8B model (`policies_run.FLEET`; how engines behave is in
`policies_engine`, what is asked in `policies_workloads`). No socket, no clock: one seed gives one result on any
machine.
"""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.policies_plot import draw
from bench.policies_run import Outcome, simulate
from bench.policies_workloads import WORKLOADS
from vastproxy.settings.routing import POLICY_NAMES

POLICIES = POLICY_NAMES
#: Workload -> policy -> what came of it.
Results = Mapping[str, Mapping[str, Outcome]]

_COLUMNS = ("TTFT p50", "TTFT p99", "queue p50", "queue p99", "prefix hits", "$/M tokens", "minutes")


def measure(names: Sequence[str], policies: Sequence[str], *, seed: int, load: float) -> Results:
    """Every policy on the same conversations. `load`: factor on how much is asked."""
    found: dict[str, dict[str, Outcome]] = {}
    for name in names:
        conversations = WORKLOADS[name].draw(random.Random(seed), load)
        found[name] = {policy: simulate(policy, conversations, seed=seed) for policy in policies}
    return found


def table(results: Results) -> str:
    """The results for people."""
    lines = []
    for name, outcomes in results.items():
        requests = max(outcome.requests for outcome in outcomes.values())
        lines.append(f"{WORKLOADS[name].title} ({requests:,} requests)")
        lines.append(f"  {'':<16}" + "".join(f"{column:>13}" for column in _COLUMNS))
        lines += [f"  {policy:<16}{_row(outcome)}" for policy, outcome in outcomes.items()]
        lines.append("")
    return "\n".join(lines)


def _row(outcome: Outcome) -> str:
    times = (outcome.ttft_p50_s, outcome.ttft_p99_s, outcome.queue_p50_s, outcome.queue_p99_s)
    shown = "".join(f"{seconds:>11.2f} s" for seconds in times)
    return (
        f"{shown}{outcome.hit_rate:>12.0%} {outcome.dollars_per_million:>12.2f} {outcome.hours * 60:>12.1f}"
    )


def as_json(results: Results, *, seed: int, load: float) -> dict[str, Any]:
    """The results for programs."""
    rows = [
        {"workload": name, "policy": policy, **asdict(outcome)}
        for name, outcomes in results.items()
        for policy, outcome in outcomes.items()
    ]
    return {"bench": "policies", "seed": seed, "load": load, "results": rows}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.policies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="what everything is drawn from (default: 1)")
    parser.add_argument("--load", type=_factor, default=1.0, help="factor on how much is asked (default: 1)")
    parser.add_argument("--workload", choices=list(WORKLOADS), action="append", help="only this one")
    parser.add_argument("--policy", choices=POLICIES, action="append", help="only this one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, as SVG")
    return parser


def _factor(text: str) -> float:
    factor = float(text)
    if not 0.05 <= factor <= 20:
        raise argparse.ArgumentTypeError("expected 0.05 to 20")
    return factor


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    given = _parser().parse_args(argv)
    results = measure(
        given.workload or list(WORKLOADS), given.policy or POLICIES, seed=given.seed, load=given.load
    )
    sys.stdout.write(table(results))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        document = as_json(results, seed=given.seed, load=given.load)
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.plot is not None:
        given.plot.parent.mkdir(parents=True, exist_ok=True)
        titles = {name: workload.title for name, workload in WORKLOADS.items()}
        given.plot.write_text(draw(results, titles))
    return 0


if __name__ == "__main__":
    sys.exit(main())
