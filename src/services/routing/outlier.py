"""Is a candidate well, judged by what becomes of the requests that it is given? Pure: a record and its transitions.

    SERVING ──failures in a row──> EJECTED ──its time is over, one request──> PROBING ──answered──> SERVING
       │                              ^                                          │
       └──refuses our key──> MISCONFIGURED                        └── failed ────┘ (for longer each time)

1. Failures of the way (refused, reset, lost) and of the engine (5xx) are counted apart, each in a row: an answer ends
   both, a 5xx shows at least that the way is fine.
2. A client that leaves is nobody's failure. One that was to be the probe leaves room for the next.
3. An engine that is full or still loading (429, 503) is no outlier. It is left alone for the time that it asks for.
4. One that does not accept our key (401, 403) will not until somebody changes something: that is told to people
   (`Change.MISCONFIGURED`), and it is asked again now and then. A single refusal may mean one path or one model.
5. Requests that were sent before an ejection still end. Their failures say nothing new; their answers prove life, so
   that the probe may come at once.
6. A record decides nothing alone: how many may be left out at the same time is the business of `usable.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

_NEVER = float("-inf")


class State(StrEnum):
    SERVING = "serving"
    EJECTED = "ejected"
    """It gets nothing until its time is over, then one request."""
    PROBING = "probing"
    """That request is under way."""
    MISCONFIGURED = "misconfigured"
    """It does not accept our key."""


class Event(StrEnum):
    PICKED = "picked"
    """A request is given to it."""
    ANSWERED = "answered"
    """The head of an answer came, whose status blames nobody but the client."""
    WAY_FAILED = "way_failed"
    """Refused, reset, lost or silent, before any byte of an answer."""
    ENGINE_FAILED = "engine_failed"
    """5xx, or no HTTP, or an answer that broke off."""
    BUSY = "busy"
    """429 or 503."""
    REFUSED = "refused"
    """401 or 403."""
    LEFT = "left"
    """The client went before anything came."""


class Change(StrEnum):
    """What people want to know of a step."""

    EJECTED = "ejected"
    RETURNED = "returned"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class OutlierLimits:
    """Seconds, and failures in a row."""

    way_failures: int = 3
    engine_failures: int = 5
    refusals: int = 3
    ejection_s: float = 10.0
    """The first ejection; the n-th without a good time between is n times as long."""
    max_ejection_s: float = 300.0
    """The longest ejection, and how long all must go well for the next to be a first one again."""
    recheck_s: float = 60.0
    """How often one that does not accept our key is asked again, and how long a probe is waited for."""
    pause_s: float = 1.0
    """How long one that is full is left alone when it does not say; n times in a row, n times as long."""
    max_pause_s: float = 30.0
    slow_start_s: float = 20.0
    """How long a candidate that is new or comes back takes to get its full share."""
    least_weight: float = 0.1
    """The share that it begins with."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one candidate. Made by `fresh`, changed by `step`."""

    since: float
    """Since when it serves without an ejection between; where the slow start began."""
    state: State = State.SERVING
    until: float = _NEVER
    """When it may be given a request again, where it is not SERVING."""
    paused_until: float = _NEVER
    """Until when it is left alone because it is full."""
    way_failures: int = 0
    engine_failures: int = 0
    refusals: int = 0
    busy: int = 0
    ejections: int = 0
    """In a row, without a good time between."""
    way_lost: bool = False
    """Was it ejected because it could not be reached?"""


def fresh(now: float) -> Record:
    """The record of a candidate that is new, or that probes have just found to be well again."""
    return Record(since=now)


def event_of(status: int) -> Event:
    """What the status of an answer says about who gave it."""
    if status in (401, 403):
        return Event.REFUSED
    if status in (429, 503):
        return Event.BUSY
    # 501: it does not offer this at all (llama.cpp, for paths that are switched off), which is no failure.
    return Event.ENGINE_FAILED if status >= 500 and status != 501 else Event.ANSWERED


def step(
    record: Record, event: Event, now: float, limits: OutlierLimits, *, retry_after_s: float | None = None
) -> tuple[Record, Change | None]:
    """The record after `event`, the same object where nothing changes, and what people should hear of it.

    `retry_after_s`: what a BUSY one asked for; it is believed up to `max_pause_s`.
    """
    rule = TRANSITIONS[record.state].get(event)
    if rule is None:
        return record, None
    after = rule(record, now, limits)
    if event is Event.BUSY:
        after = _paused(after, now, limits, retry_after_s)
    return after, _change(record, after)


def weight(record: Record, now: float, limits: OutlierLimits) -> float:
    """Its share of the load that it could carry, from `least_weight` to 1.0, growing evenly during the slow start."""
    if record.state is not State.SERVING:
        return limits.least_weight
    age_s = max(0.0, now - record.since)
    if age_s >= limits.slow_start_s:
        return 1.0
    return limits.least_weight + (1.0 - limits.least_weight) * age_s / limits.slow_start_s


def _change(before: Record, after: Record) -> Change | None:
    if after.state is before.state:
        return None
    if after.state is State.MISCONFIGURED:
        return Change.MISCONFIGURED
    if after.state is State.SERVING:
        return Change.RETURNED
    return Change.EJECTED if after.ejections > before.ejections else None


def _clean(record: Record, now: float, limits: OutlierLimits) -> Record:
    """An answer ends every row of failures, and in time the memory of ejections. A pause goes on: one that is full
    answers those that it has begun."""
    is_forgiven = record.ejections > 0 and now - record.since >= limits.max_ejection_s
    is_over = record.busy > 0 and now >= record.paused_until
    if not (is_forgiven or is_over or record.way_failures or record.engine_failures or record.refusals):
        return record
    return Record(
        since=record.since,
        paused_until=_NEVER if is_over else record.paused_until,
        busy=0 if is_over else record.busy,
        ejections=0 if is_forgiven else record.ejections,
    )


def _way_failed(record: Record, now: float, limits: OutlierLimits) -> Record:
    failures = record.way_failures + 1
    if failures >= limits.way_failures:
        return _eject(record, now, limits, way_lost=True)
    return replace(record, way_failures=failures)


def _engine_failed(record: Record, now: float, limits: OutlierLimits) -> Record:
    failures = record.engine_failures + 1
    if failures >= limits.engine_failures:
        return _eject(record, now, limits, way_lost=False)
    return replace(record, engine_failures=failures, way_failures=0)


def _eject(record: Record, now: float, limits: OutlierLimits, *, way_lost: bool) -> Record:
    times = record.ejections + 1
    until = now + min(limits.ejection_s * times, limits.max_ejection_s)
    return Record(since=record.since, state=State.EJECTED, until=until, ejections=times, way_lost=way_lost)


def _refused(record: Record, now: float, limits: OutlierLimits) -> Record:
    if record.refusals + 1 >= limits.refusals:
        return _misconfigured(record, now, limits)
    return replace(record, refusals=record.refusals + 1, way_failures=0, engine_failures=0)


def _misconfigured(record: Record, now: float, limits: OutlierLimits) -> Record:
    return Record(
        since=record.since,
        state=State.MISCONFIGURED,
        until=now + limits.recheck_s,
        ejections=record.ejections,
    )


def _busy(record: Record, now: float, limits: OutlierLimits) -> Record:
    is_again = now >= record.paused_until  # not one of many that were sent before the first was turned away
    return replace(record, busy=record.busy + is_again, way_failures=0)


def _paused(record: Record, now: float, limits: OutlierLimits, asked_s: float | None) -> Record:
    pause_s = asked_s if asked_s is not None and asked_s >= 0 else limits.pause_s * max(record.busy, 1)
    until = now + min(pause_s, limits.max_pause_s)
    if record.state is State.SERVING:
        return replace(record, paused_until=max(record.paused_until, until))
    return replace(record, until=until)


def _begin_probe(record: Record, now: float, limits: OutlierLimits) -> Record:
    if now < record.until:
        return record  # nobody else was left: what becomes of it counts as of one that was under way
    return replace(record, state=State.PROBING, until=now + limits.recheck_s)


def _probe_failed(way_lost: bool) -> Callable[[Record, float, OutlierLimits], Record]:
    return lambda record, now, limits: _eject(record, now, limits, way_lost=way_lost)


def _probe_undecided(record: Record, now: float, limits: OutlierLimits) -> Record:
    return replace(record, state=State.EJECTED, until=now)


def _due_now(record: Record, now: float, limits: OutlierLimits) -> Record:
    return replace(record, until=min(record.until, now))


def _recheck(record: Record, now: float, limits: OutlierLimits) -> Record:
    return record if now < record.until else replace(record, until=now + limits.recheck_s)


def _return(record: Record, now: float, limits: OutlierLimits) -> Record:
    return Record(since=now, ejections=record.ejections)


#: An event that is not in a state's row changes nothing there.
TRANSITIONS: Mapping[State, Mapping[Event, Callable[[Record, float, OutlierLimits], Record]]] = {
    State.SERVING: {
        Event.ANSWERED: _clean,
        Event.WAY_FAILED: _way_failed,
        Event.ENGINE_FAILED: _engine_failed,
        Event.BUSY: _busy,
        Event.REFUSED: _refused,
    },
    State.EJECTED: {
        Event.PICKED: _begin_probe,
        Event.ANSWERED: _due_now,
    },
    State.PROBING: {
        Event.PICKED: _begin_probe,
        Event.ANSWERED: _return,
        Event.WAY_FAILED: _probe_failed(way_lost=True),
        Event.ENGINE_FAILED: _probe_failed(way_lost=False),
        Event.BUSY: _probe_undecided,
        Event.REFUSED: _misconfigured,
        Event.LEFT: _probe_undecided,
    },
    State.MISCONFIGURED: {
        Event.PICKED: _recheck,
        Event.ANSWERED: _return,
    },
}
