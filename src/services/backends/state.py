"""The life of a backend, as one table. Every change of state in the program goes through `step`.

A backend is born DISCOVERED when an instance appears that we want to serve, and CONNECTING from the
first attempt to reach it. From then on it is judged by what it does: it is HEALTHY while its tunnel
is up and its engine answers, UNHEALTHY otherwise, and goes back and forth between the two for as long as
the instance lives. DRAINING is an order, not an observation: whatever a probe says, it gets no new
work. REMOVING is the end, reached from anywhere when the instance is gone; reports of probes that
were still under way arrive there and change nothing.

Three rules:

1. Only HEALTHY may be given new requests. Nothing else in the program asks for a state to decide that.
2. A missing entry is a bug in the caller and raises; an entry that leads back to its own state is a
   report that may come at that time and says nothing new.
3. Whether an observation is good or bad enough to be an event is decided elsewhere (`health.py`).
"""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    DISCOVERED = "discovered"
    CONNECTING = "connecting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    REMOVING = "removing"


class Event(StrEnum):
    DIAL = "dial"
    """We begin to connect."""
    SERVING = "serving"
    """The engine answers as a healthy one does."""
    FAILING = "failing"
    """The engine does not, for long enough to believe it."""
    TUNNEL_LOST = "tunnel_lost"
    """The last SSH connection ended."""
    STALLED = "stalled"
    """No SSH connection answers, though none has ended."""
    SUSPECTED = "suspected"
    """Somebody who may know says that the instance is going or gone."""
    DRAIN = "drain"
    """Somebody wants no new work to go there."""
    UNDRAIN = "undrain"
    """Somebody takes that back."""
    VANISHED = "vanished"
    """The instance is gone, stopped, or not ours to serve any more."""


class IllegalTransition(AssertionError):
    """A bug: an event was reported in a state in which it cannot happen."""


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.DISCOVERED: {
        Event.DIAL: State.CONNECTING,
        Event.DRAIN: State.DRAINING,
        Event.VANISHED: State.REMOVING,
    },
    State.CONNECTING: {
        Event.DIAL: State.CONNECTING,
        Event.SERVING: State.HEALTHY,
        Event.FAILING: State.UNHEALTHY,
        Event.TUNNEL_LOST: State.CONNECTING,
        Event.STALLED: State.CONNECTING,
        Event.DRAIN: State.DRAINING,
        Event.VANISHED: State.REMOVING,
    },
    State.HEALTHY: {
        Event.SERVING: State.HEALTHY,
        Event.FAILING: State.UNHEALTHY,
        Event.TUNNEL_LOST: State.UNHEALTHY,
        Event.STALLED: State.UNHEALTHY,
        # Only a probe may say that it serves all the same.
        Event.SUSPECTED: State.UNHEALTHY,
        Event.DRAIN: State.DRAINING,
        Event.VANISHED: State.REMOVING,
    },
    State.UNHEALTHY: {
        Event.DIAL: State.UNHEALTHY,
        Event.SERVING: State.HEALTHY,
        Event.FAILING: State.UNHEALTHY,
        Event.TUNNEL_LOST: State.UNHEALTHY,
        Event.STALLED: State.UNHEALTHY,
        Event.DRAIN: State.DRAINING,
        Event.VANISHED: State.REMOVING,
    },
    State.DRAINING: {
        Event.DIAL: State.DRAINING,
        Event.SERVING: State.DRAINING,
        Event.FAILING: State.DRAINING,
        Event.TUNNEL_LOST: State.DRAINING,
        Event.STALLED: State.DRAINING,
        Event.DRAIN: State.DRAINING,
        # Back among the living, but only a probe may say that it serves.
        Event.UNDRAIN: State.UNHEALTHY,
        Event.VANISHED: State.REMOVING,
    },
    State.REMOVING: {
        Event.SERVING: State.REMOVING,
        Event.FAILING: State.REMOVING,
        Event.TUNNEL_LOST: State.REMOVING,
        Event.STALLED: State.REMOVING,
        Event.VANISHED: State.REMOVING,
    },
}


def step(state: State, event: Event) -> State:
    """The state after `event` in `state`. Raises IllegalTransition when that cannot happen."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"no {event.name} in {state.name}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram. Entries that change nothing are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DISCOVERED.name}"]
    for state, row in TRANSITIONS.items():
        ends: dict[State, list[str]] = {}
        for event, end in row.items():
            if end is not state:
                ends.setdefault(end, []).append(event.name.lower())
        lines += [f"    {state.name} --> {end.name}: {', '.join(names)}" for end, names in ends.items()]
    return "\n".join([*lines, f"    {State.REMOVING.name} --> [*]"]) + "\n"
