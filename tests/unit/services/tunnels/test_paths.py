"""Two ways to one instance: each is dialled when it should be, and only living ones take new work."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.backoff import Backoff
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.paths import (
    STABLE_S,
    Mode,
    PathEvent,
    PathRecord,
    PathState,
    due,
    next_look,
    readdressed,
    step,
    usable,
)

BACKOFF = Backoff(5.0, 300.0)
D, R = Path.DIRECT, Path.RELAY


def after(*events: tuple[PathEvent, float], record: PathRecord | None = None) -> PathRecord:
    """What these events make of a path, each with its time."""
    record = record or PathRecord()
    for event, now in events:
        record = step(record, event, now, backoff=BACKOFF, rng=random.Random(1))
    return record


UP = after((PathEvent.DIAL, 0), (PathEvent.CONNECTED, 1))
DIALING = after((PathEvent.DIAL, 0))
DOUBTED = after((PathEvent.DOUBT, 50), record=UP)
FAILED = after((PathEvent.DIAL, 0), (PathEvent.FAILED, 10))


def test_both_are_dialled_at_once_and_each_comes_back_by_itself() -> None:
    assert due({D: PathRecord(), R: PathRecord()}, 0, mode="both") == ((D,), (R,))
    assert due({D: FAILED, R: PathRecord()}, 10, mode="both") == ((R,),)
    assert due({D: FAILED, R: UP}, 10, mode="both") == ()
    assert due({D: FAILED, R: UP}, FAILED.not_before, mode="both") == ((D,),)
    assert due({R: PathRecord()}, 0, mode="both") == ((R,),)


def test_one_goes_over_the_relay_only_while_there_is_no_direct_path() -> None:
    assert due({D: PathRecord(), R: PathRecord()}, 0, mode="one") == ((D, R),)
    assert due({D: DIALING, R: PathRecord()}, 0, mode="one") == ()
    assert due({D: FAILED, R: PathRecord()}, 10, mode="one") == ((R,),)
    assert due({D: UP, R: PathRecord()}, 100, mode="one") == ()


def test_one_looks_for_the_direct_path_again_from_time_to_time() -> None:
    ways = {D: FAILED, R: UP}
    assert due(ways, 100, mode="one", upgrade_at=101) == ()
    assert due(ways, 101, mode="one", upgrade_at=101) == ((D,),)


def test_a_path_that_failed_waits_longer_each_time() -> None:
    record, pauses = PathRecord(), []
    for now in (0.0, 1e3, 2e3, 3e3):
        record = after((PathEvent.DIAL, now), (PathEvent.FAILED, now), record=record)
        pauses.append(record.not_before - now)
    assert pauses == sorted(pauses)
    assert pauses[0] >= BACKOFF.min_s
    assert record.failures == 4


def test_a_connection_that_was_good_for_long_is_made_again_at_once() -> None:
    lost = after((PathEvent.LOST, 1 + STABLE_S), record=UP)
    assert (lost.state, lost.failures, lost.not_before) == (PathState.DOWN, 0, 1 + STABLE_S)


def test_doubt_does_not_make_a_good_connection_look_short() -> None:
    lost = after((PathEvent.DOUBT, 1000), (PathEvent.LOST, 1005), record=UP)
    assert (lost.failures, lost.not_before) == (0, 1005)


def test_a_connection_that_did_not_last_is_made_again_at_once_the_first_time_only() -> None:
    lost = after((PathEvent.LOST, STABLE_S / 2), record=UP)
    assert (lost.failures, lost.not_before) == (1, STABLE_S / 2)
    again = after((PathEvent.DIAL, 20), (PathEvent.CONNECTED, 21), (PathEvent.LOST, 22), record=lost)
    assert again.failures == 2
    assert again.not_before >= 22 + BACKOFF.min_s


def test_a_path_that_lets_us_in_and_drops_us_is_tried_every_half_minute_at_least() -> None:
    lost = after((PathEvent.LOST, 60), record=replace(UP, connected_at=59.0, failures=30))
    assert lost.not_before <= 60 + STABLE_S


def test_a_failure_that_somebody_is_about_to_mend_is_tried_again_soon() -> None:
    record = PathRecord(failures=20)
    failed = step(
        step(record, PathEvent.DIAL, 0, backoff=BACKOFF, rng=random.Random(1)),
        PathEvent.FAILED,
        10,
        backoff=BACKOFF,
        rng=random.Random(1),
        pause_at_most_s=20,
    )
    assert failed.not_before <= 30


def test_a_path_that_we_let_go_may_be_dialled_again_at_once() -> None:
    left = after((PathEvent.LEFT, 3), record=UP)
    assert (left.state, left.failures, left.not_before) == (PathState.DOWN, UP.failures, UP.not_before)


def test_nothing_new_is_sent_into_doubt_and_all_is_well_after_a_proof() -> None:
    assert usable({D: UP, R: UP}) == (D, R)
    assert usable({D: DOUBTED, R: UP}) == (R,)
    assert usable({D: DOUBTED, R: FAILED}) == ()
    assert usable({D: after((PathEvent.PROOF, 51), record=DOUBTED), R: UP}) == (D, R)


def test_another_address_is_tried_at_once() -> None:
    assert due({D: readdressed(FAILED)}, 10, mode="both") == ((D,),)
    assert readdressed(UP).state is PathState.UP


@pytest.mark.parametrize("event", [PathEvent.CONNECTED, PathEvent.LOST, PathEvent.DOUBT])
def test_what_cannot_happen_is_a_bug(event: PathEvent) -> None:
    with pytest.raises(KeyError):
        after((event, 0))


def test_when_to_look_again() -> None:
    assert next_look({D: UP, R: UP}, 0) is None
    assert next_look({D: FAILED, R: UP}, 10) == FAILED.not_before
    assert next_look({D: FAILED, R: UP}, FAILED.not_before) is None


STEPS = st.lists(st.tuples(st.sampled_from(PathEvent), st.floats(0, 100)), max_size=40)


@given(STEPS, st.sampled_from(("both", "one")))
def test_whatever_happens_no_path_is_dialled_too_soon_or_twice(
    steps: list[tuple[PathEvent, float]], mode: Mode
) -> None:
    """A path is due only when it is down and its pause is over, and in the mode `one` in one race at a time."""
    ways, now, rng = {D: PathRecord(), R: PathRecord()}, 0.0, random.Random(2)
    for number, (event, pause_s) in enumerate(steps):
        now += pause_s
        path = (D, R)[number % 2]
        try:
            ways[path] = step(ways[path], event, now, backoff=BACKOFF, rng=rng)
        except KeyError:
            continue
        races = due(ways, now, mode=mode)
        dialled = [each for race in races for each in race]
        assert all(ways[each].state is PathState.DOWN and ways[each].not_before <= now for each in dialled)
        assert len(races) <= (2 if mode == "both" else 1)
        assert len(dialled) == len(set(dialled))
        assert all(ways[each].state is PathState.UP for each in usable(ways))
        if ways[path].state is PathState.DOWN and ways[path].failures:
            assert ways[path].not_before >= now + BACKOFF.min_s or event is not PathEvent.FAILED
