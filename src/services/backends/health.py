"""From single observations to a verdict: when does a backend count as serving, when as failing?

Four kinds of observation, in two classes:

1. GOOD: the engine said it is healthy. One is enough.
2. ABSENT: certain at once that it cannot serve (the port is closed, the engine says it is loading, it
   does not accept our token). One is enough.
3. BAD: a probe that went wrong and may mean nothing (SGLang's /health times out under a long prefill).
   `unhealthy_after` in a row are needed, a streak that any GOOD ends – and a BAD while requests are
   being answered does not count at all: live traffic is proof of life.

A backend that has never been healthy needs no streak: it is not given up, it has not yet begun.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from vastproxy.services.backends.state import Event


class Observation(StrEnum):
    GOOD = "good"
    ABSENT = "absent"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a backend's probes: BAD ones in a row, and whether it is held to be serving."""

    streak: int = 0
    serving: bool = False


def judge(
    record: Record, seen: Observation, *, unhealthy_after: int, traffic_alive: bool = False
) -> tuple[Record, Event | None]:
    """The record after one more observation, and the event to report; None while it is too early to tell."""
    if seen is Observation.GOOD:
        return Record(streak=0, serving=True), Event.SERVING
    if seen is Observation.ABSENT:
        return Record(streak=record.streak + 1, serving=False), Event.FAILING
    if record.serving and traffic_alive:
        return replace(record, streak=0), None
    streak = record.streak + 1
    if record.serving and streak < unhealthy_after:
        return replace(record, streak=streak), None
    return Record(streak=streak, serving=False), Event.FAILING
