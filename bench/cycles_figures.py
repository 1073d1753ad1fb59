"""What the cycles say: who saw errors, how long until the other path served, and what was left behind. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cycles_client import Asked
from bench.figures import percentile
from bench.soak_watch import SERIES, Sample

#: Within how many seconds requests are to be served again over the other path.
GOAL_S = {"reset": 1.0, "freeze": 11.0}
#: Within how many seconds a stream on a dead path is to end.
END_GOAL_S = 15.0
#: An answer that takes longer than this, thinking included, hung.
HUNG_S = 3.0
_TIMES = ("served_again", "switched", "broken_requests_ended", "direct_again")
_PLAIN_KINDS = ("plain", "probe", "canary")


@dataclass(slots=True)
class Cycle:
    """One death and return of a machine's direct path. Moments are monotonic."""

    kind: str
    instance: int
    killed_at: float
    served_after_s: float | None = None
    """From the death until a request that began later was first answered by that machine; None: not in time."""
    returned_at: float = float("inf")
    direct_after_s: float | None = None
    """From the return until requests take the direct path again."""


def cycle_of(asked: Asked, cycles: Sequence[Cycle]) -> Cycle | None:
    """The last death before the request ended, which is what a failure is put down to."""
    return next((one for one in reversed(cycles) if one.killed_at <= asked.ended), None)


def switched_after_s(cycle: Cycle, asked: Sequence[Asked]) -> float:
    """From the death until the last moment, before the return, at which a question was asked that failed or hung."""
    bad = (
        one.began - cycle.killed_at
        for one in asked
        if one.kind in _PLAIN_KINDS
        and cycle.killed_at <= one.began < cycle.returned_at
        and (not one.is_good or one.ended - one.began > HUNG_S)
    )
    return max(bad, default=0.0)


def describe_times(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p99 and the longest of times in seconds; None when there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    named = {"p50_s": 0.5, "p99_s": 0.99, "max_s": 1.0}
    return {name: round(percentile(ordered, share), 3) for name, share in named.items()}


def count_requests(asked: Sequence[Asked]) -> dict[str, dict[str, int]]:
    """For each kind of request: how many there were, and how many failed before and after the first byte."""
    found: dict[str, dict[str, int]] = {}
    for one in asked:
        row = found.setdefault(one.kind, {"asked": 0, "failed_before_a_byte": 0, "failed_after_a_byte": 0})
        row["asked"] += 1
        if not one.is_good:
            row["failed_after_a_byte" if one.was_answered else "failed_before_a_byte"] += 1
    return found


def reasons(asked: Sequence[Asked], cycles: Sequence[Cycle]) -> dict[str, int]:
    """Failures by the death that they are put down to, kind of request and reason, the most frequent first."""
    counted: Counter[str] = Counter()
    for one in asked:
        if not one.is_good:
            cycle = cycle_of(one, cycles)
            when = "after the first byte" if one.was_answered else "before any byte"
            counted[f"{cycle.kind if cycle else 'before any death'}: {one.kind}, {when}: {one.reason}"] += 1
    return dict(counted.most_common())


def describe_kind(kind: str, asked: Sequence[Asked], cycles: Sequence[Cycle]) -> dict[str, Any]:
    """All figures of the cycles of one kind."""
    mine = [one for one in cycles if one.kind == kind]
    in_time = [one.served_after_s for one in mine if one.served_after_s is not None]
    failed: list[Asked] = []
    ends: list[float] = []
    for one in asked:
        cycle = None if one.is_good else cycle_of(one, cycles)
        if cycle is not None and cycle.kind == kind:
            failed.append(one)
            if one.began < cycle.killed_at:
                ends.append(one.ended - cycle.killed_at)
    return {
        "cycles": len(mine),
        "served_again": describe_times(in_time),
        "never_served_again": len(mine) - len(in_time),
        "switched": describe_times([switched_after_s(one, asked) for one in mine]),
        "direct_again": describe_times(
            [one.direct_after_s for one in mine if one.direct_after_s is not None]
        ),
        "broken_requests_ended": describe_times(ends),
        "plain_errors": sum(one.kind in _PLAIN_KINDS for one in failed),
        "stream_errors_before_a_byte": sum(one.kind == "stream" and not one.was_answered for one in failed),
        "stream_errors_after_a_byte": sum(one.kind == "stream" and one.was_answered for one in failed),
        "goal_s": GOAL_S[kind],
    }


def left_behind(before: Sample, after: Sample) -> dict[str, dict[str, float | bool | None]]:
    """Descriptors, tasks and threads at rest, before the load and after it."""
    found: dict[str, dict[str, float | bool | None]] = {}
    for name, allowed in SERIES.items():
        first, last = getattr(before, name), getattr(after, name)
        is_good = allowed is None or first is None or last is None or last - first <= allowed
        found[name] = {"before": first, "after": last, "is_good": is_good}
    return found


def verdicts(kinds: dict[str, dict[str, Any]], left: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """Each goal, and whether it was met."""
    found = {
        "no plain request failed": not sum(one["plain_errors"] for one in kinds.values()),
        "no stream failed that had not sent a byte": not sum(
            one["stream_errors_before_a_byte"] for one in kinds.values()
        ),
    }
    for kind, one in kinds.items():
        times, goal_s = one["switched"], one["goal_s"]
        found[f"after a {kind} all is served again within {goal_s:g} s"] = (
            not one["never_served_again"] and times is not None and times["max_s"] < goal_s
        )
        ends = one["broken_requests_ended"]
        found[f"after a {kind} broken requests ended within {END_GOAL_S:g} s"] = (
            ends is None or ends["max_s"] < END_GOAL_S
        )
    found["nothing was left behind"] = all(one["is_good"] for one in left.values())
    return found


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'requests':<10} {'asked':>8} {'failed before a byte':>22} {'after a byte':>14}"]
    for kind, row in report["requests"].items():
        before, after = row["failed_before_a_byte"], row["failed_after_a_byte"]
        lines.append(f"{kind:<10} {row['asked']:>8} {before:>22} {after:>14}")
    lines += [
        "",
        f"{'death':<8} {'cycles':>6}  {'served again, s':<24} {'broken ended, s':<24} direct again, s",
    ]
    for kind, one in report["kinds"].items():
        times = (_shown(one[name]) for name in _TIMES)
        late = f"  ({one['never_served_again']} not in time)" if one["never_served_again"] else ""
        lines.append(f"{kind:<8} {one['cycles']:>6}  " + " ".join(f"{text:<20}" for text in times) + late)
    lines += ["(p50 / p99 / longest)", ""]
    lines += [f"{count:>6}  {what}" for what, count in report["failures"].items()]
    for name, row in report["left"].items():
        lines.append(f"{name:<8} at rest {row['before']} before, {row['after']} after")
    lines += [f"  LOG: {line}" for line in report["log_problems"]]
    lines += [f"{'met   ' if met else 'MISSED'}  {goal}" for goal, met in report["goals"].items()]
    return "\n".join(lines)


def _shown(times: dict[str, float] | None) -> str:
    return "-" if times is None else " / ".join(f"{value:.2f}" for value in times.values())
