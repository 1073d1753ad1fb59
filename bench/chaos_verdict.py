"""What a run of the chaos has shown: counts, the other end's view, and everything that should not have been. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.chaos_events import Incident
from bench.chaos_reading import Asked
from bench.soak_watch import Sample

#: A client notes the end of a request later than the proxy; only what lasts longer is over a cap. Where one request
#: takes the place of another there is a moment between them.
OVER_CAP_S = 0.3
_MOMENT_S = 0.05
#: A request may be under way when the drain is answered.
DRAIN_GRACE_S = 0.2
_NUMBER = re.compile(r"\d+(\.\d+)*")
#: By how much what is left at rest may exceed what was there before. Memory: what is remembered of prompts and of the
#: last requests fills up first.
REST: Mapping[str, float] = {"fds": 4, "threads": 2, "tasks": 4, "rss_mb": 40.0}


@dataclass(frozen=True, slots=True)
class Span:
    """A request at an engine, by the engine's own word. `end` is infinite where it was killed meanwhile."""

    engine: int
    nonce: str
    begin: float
    end: float


@dataclass(slots=True)
class Outcome:
    """Everything that was seen."""

    asked: list[Asked] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    access: list[Mapping[str, Any]] = field(default_factory=list)
    """The lines of the access log."""
    problems: list[str] = field(default_factory=list)
    """Lines of the log, and states at the end, that should not be."""
    rest: list[Sample] = field(default_factory=list)
    calm_from: float = float("inf")
    """From when on nothing was broken any more and all had recovered."""


def read_spans(engine: int, lines: Iterable[Mapping[str, Any]]) -> list[Span]:
    """The requests in one engine's journal."""
    open_: dict[str, list[float]] = {}
    spans = []
    for line in lines:
        nonce, at = str(line["nonce"]), float(line["at"])
        if line["what"] == "begin":
            open_.setdefault(nonce, []).append(at)
        elif open_.get(nonce):
            spans.append(Span(engine, nonce, open_[nonce].pop(0), at))
    spans += [Span(engine, nonce, begin, float("inf")) for nonce, begins in open_.items() for begin in begins]
    return sorted(spans, key=lambda one: one.begin)


def wanted(spans: Iterable[Span], ended: Mapping[str, float]) -> list[Span]:
    """The same, each until the engine ended it or nobody wanted it any more: its client had an end, or another
    attempt had begun. What a frozen engine or connection still holds of the others it cannot be blamed for."""
    by_nonce: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda one: one.begin):
        by_nonce.setdefault(span.nonce, []).append(span)
    found = []
    for nonce, attempts in by_nonce.items():
        nexts = [one.begin for one in attempts[1:]] + [float("inf")]
        for span, following in zip(attempts, nexts, strict=True):
            end = min(span.end, following, ended.get(nonce, float("inf")))
            if end > span.begin:
                found.append(Span(span.engine, nonce, span.begin, end))
    return found


def over_cap(spans: Iterable[Span], cap: int) -> tuple[int, list[str]]:
    """The most at the same time at one engine; and when one had more than `cap` for longer than it can seem so."""
    most, found = 0, []
    by_engine: dict[int, list[tuple[float, int]]] = {}
    for span in spans:
        by_engine.setdefault(span.engine, []).extend(((span.begin, 1), (span.end, -1)))
    for engine, steps in by_engine.items():
        running, top = 0, 0
        periods: list[list[float]] = []
        for at, step in sorted(steps):
            running += step
            top = max(top, running)
            if step > 0 and running == cap + 1 and not (periods and at - periods[-1][1] < _MOMENT_S):
                periods.append([at, at])
            elif step < 0 and running == cap:
                periods[-1][1] = at
        most = max(most, top)
        found += [
            f"engine {engine} had up to {top} requests for {end - begin:.2f} s, its cap is {cap}"
            for begin, end in periods
            if end - begin > OVER_CAP_S
        ]
    return most, found


def drained_but_served(incidents: Iterable[Incident], asked: Sequence[Asked]) -> list[str]:
    """Requests that began and ended at an instance while it was drained."""
    return [
        f"{one.kind} {one.request_id} was sent to {one.instance}, which was drained"
        for incident in incidents
        if incident.quiet_from is not None and incident.quiet_until is not None
        for one in asked
        if one.instance == incident.instance
        and one.began > incident.quiet_from + DRAIN_GRACE_S
        and one.ended < incident.quiet_until
    ]


def not_at_rest(before: Sample, after: Sample) -> list[str]:
    """What is left of a process's use that was not there before."""
    grown = ((name, getattr(before, name), getattr(after, name)) for name in REST)
    return [
        f"{name} at rest: {was:g} before, {now:g} after"
        for name, was, now in grown
        if was is not None and now is not None and now - was > REST[name]
    ]


def faults_of(outcome: Outcome, cap: int) -> list[str]:
    """Everything that should not have been, a line each; none is the goal."""
    asked = outcome.asked
    found = [
        f"{one.kind} {one.request_id or one.nonce} at {one.instance}: {one.what}"
        for one in asked
        if one.verdict not in ("correct", "left", "error")
    ]
    found += [
        f"when all was well again: {one.kind} {one.request_id}: {one.what}"
        for one in asked
        if one.verdict == "error" and one.began > outcome.calm_from
    ]
    found += over_cap(wanted(outcome.spans, {one.nonce: one.ended for one in asked}), cap)[1]
    found += drained_but_served(outcome.incidents, asked)
    found += [
        f"{one.kind}: {one.instance} did not serve again after it had healed"
        for one in outcome.incidents
        if one.served is None
    ]
    if len(outcome.rest) > 1:
        found += not_at_rest(outcome.rest[0], outcome.rest[-1])
    return found + outcome.problems


def percentile(values: Sequence[float], share: float) -> float | None:
    """None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def incidents_by_kind(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Of each kind: how often, for how long it was broken, how long after healing it served again, and the errors of
    requests that ended there meanwhile."""
    kinds: dict[str, dict[str, Any]] = {}
    for kind in sorted({one.kind for one in outcome.incidents}):
        these = [one for one in outcome.incidents if one.kind == kind]
        back = [one.served - one.healed for one in these if one.served is not None and one.healed is not None]
        errors: Counter[str] = Counter()
        for one in these:
            until = float("inf") if one.served is None else one.served
            errors.update(
                request.what
                for request in outcome.asked
                if request.verdict == "error"
                and request.instance in (one.instance, None)
                and one.began <= request.ended <= until
            )
        kinds[kind] = {
            "count": len(these),
            "broken_p50_s": percentile(
                [one.healed - one.began for one in these if one.healed is not None], 0.5
            ),
            "back_p50_s": percentile(back, 0.5),
            "back_max_s": max(back, default=None),
            "errors": sum(errors.values()),
            "errors_by_kind": dict(errors.most_common()),
        }
    return kinds


def attempts_of(outcome: Outcome) -> dict[str, Any]:
    """What the access log tells of attempts and of waits."""
    waits = [float(line["queue_s"]) for line in outcome.access if line.get("queue_s")]
    tried: Counter[str] = Counter(
        f"{one['outcome']}: {one['error'] or '-'}" for line in outcome.access for one in line.get("tried", ())
    )
    executed = Counter(span.nonce for span in outcome.spans)
    return {
        "attempts": dict(sorted(Counter(str(line["attempts"]) for line in outcome.access).items())),
        "begun_more_than_once": sum(count > 1 for count in executed.values()),
        "waited": len(waits),
        "wait_p50_s": percentile(waits, 0.5),
        "wait_p99_s": percentile(waits, 0.99),
        "wait_max_s": max(waits, default=None),
        "tried": dict(tried.most_common(30)),
    }


def as_json(outcome: Outcome, cap: int) -> dict[str, Any]:
    """Everything for programs."""
    spans = wanted(outcome.spans, {one.nonce: one.ended for one in outcome.asked})
    kinds: dict[str, Counter[str]] = {}
    for one in outcome.asked:
        kinds.setdefault(one.kind, Counter())[one.verdict] += 1
    took = [one.ended - one.began for one in outcome.asked if one.verdict != "left"]
    return {
        "bench": "chaos",
        "asked": len(outcome.asked),
        "verdicts": dict(Counter(one.verdict for one in outcome.asked)),
        "by_kind": {kind: dict(counts) for kind, counts in sorted(kinds.items())},
        "errors": dict(Counter(one.what for one in outcome.asked if one.verdict == "error").most_common()),
        "messages": dict(
            Counter(
                _NUMBER.sub("N", f"{one.status} {one.message}") for one in outcome.asked if one.message
            ).most_common()
        ),
        "longest_s": max(took, default=None),
        **attempts_of(outcome),
        "most_at_one_engine": over_cap(spans, cap)[0],
        "cap": cap,
        "incidents": incidents_by_kind(outcome),
        "rest": [{name: getattr(one, name) for name in REST} for one in outcome.rest],
        "faults": faults_of(outcome, cap),
    }


def table(found: Mapping[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"asked {found['asked']}, of these "
        + ", ".join(f"{what} {count}" for what, count in sorted(found["verdicts"].items())),
        *(f"  {kind:<12} {_counts(counts)}" for kind, counts in found["by_kind"].items()),
        "correct errors:",
        *(f"  {count:>6}  {what}" for what, count in found["errors"].items()),
        "with these words:",
        *(f"  {count:>6}  {what}" for what, count in found["messages"].items()),
        f"attempts: {_counts(found['attempts'])}; begun more than once {found['begun_more_than_once']}",
        *(f"  {count:>6}  {what}" for what, count in found["tried"].items()),
        f"waited for a place: {found['waited']}, p50 {_s(found['wait_p50_s'])}, p99 {_s(found['wait_p99_s'])}, "
        f"at most {_s(found['wait_max_s'])}; the longest request {_s(found['longest_s'])}",
        f"most at one engine: {found['most_at_one_engine']} (cap {found['cap']})",
        f"{'incident':<34}{'times':>6}{'broken p50':>12}{'back p50':>10}{'back max':>10}{'errors':>8}",
    ]
    for kind, one in found["incidents"].items():
        lines.append(
            f"  {kind:<32}{one['count']:>6}{_s(one['broken_p50_s']):>12}{_s(one['back_p50_s']):>10}"
            f"{_s(one['back_max_s']):>10}{one['errors']:>8}"
        )
    lines += [f"at rest: {_counts(one)}" for one in found["rest"]]
    lines += [f"NOT RIGHT: {line}" for line in found["faults"]]
    return "\n".join([*lines, f"incorrect: {len(found['faults'])}"])


def _counts(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{what} {count:g}" for what, count in found.items() if count is not None)


def _s(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
