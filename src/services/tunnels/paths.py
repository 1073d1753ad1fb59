"""The ways to one instance: what is known of each, and what to do next. Pure.

An instance may be reached directly and over vast.ai's relay. Each path is a story of its own; they share nothing, so
that trouble on one never costs the other:

    DOWN ──dial──▶ DIALING ──connected──▶ UP ──doubt──▶ DOUBTED ──proof──▶ UP
      ▲               │ failed             │ lost          │ lost
      └───────────────┴────────────────────┴───────────────┘  (or left, by ourselves)

DOUBTED is a connection that owes an answer. It may be alive, so what runs on it goes on; but nothing new is
sent into it.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal

from vastproxy.services.tunnels.backoff import Backoff
from vastproxy.services.tunnels.base import Path

Mode = Literal["both", "one"]

#: A connection that ended sooner than this counts as one more failure: it would be made and lost for ever.
STABLE_S = 30.0


class PathState(Enum):
    DOWN = auto()
    DIALING = auto()
    UP = auto()
    DOUBTED = auto()


class PathEvent(Enum):
    DIAL = auto()
    CONNECTED = auto()
    FAILED = auto()
    """The attempt came to nothing."""
    DOUBT = auto()
    """An answer is overdue."""
    PROOF = auto()
    """Something came."""
    LOST = auto()
    """The connection has ended."""
    LEFT = auto()
    """We have let go of it ourselves."""


_NEXT: dict[tuple[PathState, PathEvent], PathState] = {
    (PathState.DOWN, PathEvent.DIAL): PathState.DIALING,
    (PathState.DIALING, PathEvent.CONNECTED): PathState.UP,
    (PathState.DIALING, PathEvent.FAILED): PathState.DOWN,
    (PathState.DIALING, PathEvent.LEFT): PathState.DOWN,
    (PathState.UP, PathEvent.DOUBT): PathState.DOUBTED,
    (PathState.UP, PathEvent.PROOF): PathState.UP,
    (PathState.UP, PathEvent.LOST): PathState.DOWN,
    (PathState.UP, PathEvent.LEFT): PathState.DOWN,
    (PathState.DOUBTED, PathEvent.DOUBT): PathState.DOUBTED,
    (PathState.DOUBTED, PathEvent.PROOF): PathState.UP,
    (PathState.DOUBTED, PathEvent.LOST): PathState.DOWN,
    (PathState.DOUBTED, PathEvent.LEFT): PathState.DOWN,
}


@dataclass(frozen=True, slots=True)
class PathRecord:
    """One path. Times are of the caller's clock, in seconds."""

    state: PathState = PathState.DOWN
    since: float = float("-inf")
    """When it came into this state."""
    connected_at: float = float("-inf")
    """When it was last connected."""
    failures: int = 0
    """Attempts in a row that came to nothing, connections that did not last among them."""
    not_before: float = float("-inf")
    """When the next attempt may be made."""


def step(
    record: PathRecord,
    event: PathEvent,
    now: float,
    *,
    backoff: Backoff,
    rng: random.Random,
    pause_at_most_s: float = math.inf,
) -> PathRecord:
    """The record after `event`. Raises KeyError for an event that is impossible in this state: a bug.

    `pause_at_most_s` bounds the pause after a failure, for those that somebody is about to mend.
    """
    state = _NEXT[record.state, event]
    after = replace(record, state=state, since=now if state is not record.state else record.since)
    if event is PathEvent.CONNECTED:
        return replace(after, connected_at=now)
    if event is PathEvent.FAILED:
        failures = record.failures + 1
        pause_s = min(backoff.next(failures, rng), pause_at_most_s)
        return replace(after, failures=failures, not_before=now + pause_s)
    if event is PathEvent.LOST:
        failures = 0 if now - record.connected_at >= STABLE_S else record.failures + 1
        # The first time it may be over in a moment; and who lets us in can be asked again soon.
        pause_s = min(backoff.next(failures - 1, rng), STABLE_S) if failures > 1 else 0.0
        return replace(after, failures=failures, not_before=now + pause_s)
    return after


def readdressed(record: PathRecord) -> PathRecord:
    """Its address has changed: what was learnt of the old one is worth nothing. A connection that is up stays."""
    return replace(record, failures=0, not_before=float("-inf"))


def due(
    ways: Mapping[Path, PathRecord], now: float, *, mode: Mode, upgrade_at: float = float("-inf")
) -> tuple[tuple[Path, ...], ...]:
    """What to dial now, each a race of paths of which one is wanted; `ways` has those that there is an address for.

    `both`: each that is down, for itself. `one`: a race while there is none that answers, and the direct path from
    `upgrade_at` on while there is only the relay.
    """
    waiting = tuple(path for path in Path if path in ways and _may_dial(ways[path], now))
    if mode == "both" or not waiting:
        return tuple((path,) for path in waiting)
    states = {path: record.state for path, record in ways.items()}
    if PathState.DIALING in states.values() or states.get(Path.DIRECT) is PathState.UP:
        return ()
    if states.get(Path.RELAY) is PathState.UP:
        return ((Path.DIRECT,),) if Path.DIRECT in waiting and now >= upgrade_at else ()
    return (waiting,)


def next_look(ways: Mapping[Path, PathRecord], now: float) -> float | None:
    """When `due` may have another answer without anything happening; None when only an event can change it."""
    times = [record.not_before for record in ways.values() if record.state is PathState.DOWN]
    return min((at for at in times if at > now), default=None)


def usable(ways: Mapping[Path, PathRecord]) -> tuple[Path, ...]:
    """The paths that new work may take, the better one first."""
    return tuple(path for path in Path if path in ways and ways[path].state is PathState.UP)


def _may_dial(record: PathRecord, now: float) -> bool:
    return record.state is PathState.DOWN and now >= record.not_before
