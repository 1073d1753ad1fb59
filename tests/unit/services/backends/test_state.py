"""The life of a backend: what may follow what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.state import TRANSITIONS, Event, IllegalTransition, State, mermaid, step

LEGAL = [(state, event) for state, row in TRANSITIONS.items() for event in row]


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(
    ("state", "event"), [(s, e) for s in State for e in Event if (s, e) not in LEGAL], ids=str
)
def test_what_the_table_does_not_say_is_a_bug(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"no {event.name} in {state.name}"):
        step(state, event)


@given(st.data())
def test_a_vanished_backend_never_comes_back(data: st.DataObject) -> None:
    """Whatever happened before and whatever late reports follow, VANISHED leads to REMOVING and stays there."""
    state = State.DISCOVERED
    for _ in range(data.draw(st.integers(0, 12))):
        state = step(state, data.draw(st.sampled_from(sorted(TRANSITIONS[state]))))
    state = step(state, Event.VANISHED)
    for _ in range(data.draw(st.integers(0, 6))):
        assert state is State.REMOVING
        state = step(state, data.draw(st.sampled_from(sorted(TRANSITIONS[state]))))


@given(st.lists(st.sampled_from([Event.DIAL, Event.SERVING, Event.FAILING, Event.TUNNEL_LOST])))
def test_no_observation_ends_a_drain(events: list[Event]) -> None:
    """DRAINING is an order: only UNDRAIN or the end of the instance takes it back."""
    state = State.DRAINING
    for event in events:
        state = step(state, event)
    assert state is State.DRAINING


def test_only_a_good_probe_makes_it_healthy() -> None:
    causes = {event for row in TRANSITIONS.values() for event, end in row.items() if end is State.HEALTHY}
    assert causes == {Event.SERVING}


def test_the_diagram_shows_every_change_once() -> None:
    text = mermaid()
    changes = {(s, e) for s, row in TRANSITIONS.items() for e, end in row.items() if end is not s}
    assert sum(line.count(",") + 1 for line in text.splitlines() if ": " in line) == len(changes)
    assert "HEALTHY --> UNHEALTHY: failing, tunnel_lost" in text
