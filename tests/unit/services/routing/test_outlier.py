"""What becomes of a candidate's requests says whether it is well."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.outlier import (
    TRANSITIONS,
    Change,
    Event,
    OutlierLimits,
    Record,
    State,
    event_of,
    fresh,
    step,
    weight,
)

LIMITS = OutlierLimits()
ANSWERED, BUSY, LEFT, PICKED, REFUSED = (
    Event.ANSWERED,
    Event.BUSY,
    Event.LEFT,
    Event.PICKED,
    Event.REFUSED,
)
WAY, ENGINE = Event.WAY_FAILED, Event.ENGINE_FAILED


def run(record: Record, *events: Event, now: float = 0.0) -> tuple[Record, list[Change]]:
    """The record after these events at one moment, and what people heard."""
    changes = []
    for event in events:
        record, change = step(record, event, now, LIMITS)
        if change is not None:
            changes.append(change)
    return record, changes


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (200, ANSWERED),
        (101, ANSWERED),
        (400, ANSWERED),
        (404, ANSWERED),
        (401, REFUSED),
        (403, REFUSED),
        (429, BUSY),
        (503, BUSY),
        (500, ENGINE),
        (502, ENGINE),
        (504, ENGINE),
        (501, ANSWERED),
    ],
)
def test_what_a_status_says_about_who_gave_it(status: int, event: Event) -> None:
    assert event_of(status) is event


@pytest.mark.parametrize(("event", "enough"), [(WAY, 3), (ENGINE, 5)])
def test_failures_in_a_row_eject_and_are_told_once(event: Event, enough: int) -> None:
    before, changes = run(fresh(0.0), *[event] * (enough - 1), now=7.0)
    assert (before.state, changes) == (State.SERVING, [])
    after, changes = run(before, *[event] * 10, now=7.0)
    assert (after.state, after.until, after.ejections, changes) == (State.EJECTED, 17.0, 1, [Change.EJECTED])
    assert after.way_lost == (event is WAY)


@pytest.mark.parametrize(
    "events",
    [
        (WAY, WAY, ANSWERED) * 5,
        (ENGINE, ENGINE, ENGINE, ENGINE, ANSWERED) * 5,
        (WAY, WAY, ENGINE, WAY, WAY),  # a 5xx came over the way
        (WAY, WAY, BUSY, WAY, WAY),
        (WAY, WAY, REFUSED, WAY, WAY),
        (ENGINE, ENGINE, ENGINE, ENGINE, REFUSED, ENGINE, ENGINE, ENGINE, ENGINE),
        (REFUSED, REFUSED, ANSWERED) * 5,
        (LEFT,) * 50,
        (PICKED, LEFT) * 50,
    ],
    ids=str,
)
def test_these_eject_nobody(events: tuple[Event, ...]) -> None:
    record, changes = run(fresh(0.0), *events)
    assert (record.state, changes) == (State.SERVING, [])


def test_failures_of_the_way_do_not_end_a_row_of_the_engines() -> None:
    record, _ = run(fresh(0.0), ENGINE, WAY, ENGINE, WAY, ENGINE, ENGINE, ENGINE)
    assert record.state is State.EJECTED
    assert not record.way_lost


def ejected(now: float = 0.0) -> Record:
    return run(fresh(now), WAY, WAY, WAY, now=now)[0]


def test_after_its_time_one_request_tries_it_and_no_other_meanwhile() -> None:
    early, _ = run(ejected(), PICKED, now=9.9)
    assert early.state is State.EJECTED
    probing, changes = run(ejected(), PICKED, now=10.0)
    assert (probing.state, probing.until, changes) == (State.PROBING, 70.0, [])
    assert run(probing, PICKED, now=20.0)[0] is probing


def test_a_probe_that_nothing_is_heard_of_makes_room_for_another_one() -> None:
    probing, _ = run(ejected(), PICKED, now=10.0)
    assert run(probing, PICKED, now=70.0)[0].until == 130.0


def test_a_probe_that_is_answered_brings_it_back_slowly() -> None:
    probing, _ = run(ejected(), PICKED, now=10.0)
    back, changes = run(probing, ANSWERED, now=12.0)
    assert (back.state, changes) == (State.SERVING, [Change.RETURNED])
    assert weight(back, 12.0, LIMITS) == pytest.approx(0.1)


@pytest.mark.parametrize("failure", [WAY, ENGINE])
def test_each_probe_that_fails_makes_it_wait_longer_up_to_a_bound(failure: Event) -> None:
    record, waits = ejected(), []
    for _ in range(40):
        now = record.until
        record, changes = run(record, PICKED, failure, now=now)
        assert changes == [Change.EJECTED]
        waits.append(record.until - now)
    assert waits[:3] == [20.0, 30.0, 40.0]
    assert waits[-1] == 300.0
    assert record.way_lost == (failure is WAY)


def test_a_probe_whose_client_leaves_decides_nothing_and_another_may_come_at_once() -> None:
    probing, _ = run(ejected(), PICKED, now=10.0)
    record, changes = run(probing, LEFT, now=11.0)
    assert (record.state, record.until, record.ejections, changes) == (State.EJECTED, 11.0, 1, [])


def test_a_probe_that_finds_it_full_is_no_failure() -> None:
    probing, _ = run(ejected(), PICKED, now=10.0)
    record, change = step(probing, BUSY, 11.0, LIMITS, retry_after_s=4.0)
    assert (record.state, record.until, record.ejections, change) == (State.EJECTED, 15.0, 1, None)


def test_an_answer_to_a_request_of_before_proves_life() -> None:
    record, _ = run(ejected(), ANSWERED, now=3.0)
    assert (record.state, record.until) == (State.EJECTED, 3.0)
    assert run(record, ANSWERED, now=4.0)[0].until == 3.0


def test_ejections_are_forgiven_when_all_has_gone_well_for_long_enough() -> None:
    back, _ = run(ejected(), PICKED, ANSWERED, now=10.0)
    assert run(back, ANSWERED, now=309.0)[0].ejections == 1
    assert run(back, ANSWERED, now=310.0)[0].ejections == 0


def test_soon_after_its_return_it_is_ejected_for_longer() -> None:
    back, _ = run(ejected(), PICKED, ANSWERED, now=10.0)
    assert run(back, WAY, WAY, WAY, now=20.0)[0].until == 40.0


def test_one_that_does_not_accept_our_key_is_told_to_people_and_asked_now_and_then() -> None:
    record, changes = run(fresh(0.0), REFUSED, REFUSED, REFUSED, REFUSED)
    assert (record.state, record.until, changes) == (State.MISCONFIGURED, 60.0, [Change.MISCONFIGURED])
    assert run(record, PICKED, now=59.0)[0] is record
    asked, changes = run(record, PICKED, REFUSED, now=60.0)
    assert (asked.state, asked.until, changes) == (State.MISCONFIGURED, 120.0, [])
    back, changes = run(asked, PICKED, ANSWERED, now=120.0)
    assert (back.state, changes) == (State.SERVING, [Change.RETURNED])


def test_a_probe_that_is_refused_finds_a_misconfiguration() -> None:
    probing, _ = run(ejected(), PICKED, now=10.0)
    assert run(probing, REFUSED, now=11.0) == (
        Record(since=0.0, state=State.MISCONFIGURED, until=71.0, ejections=1),
        [Change.MISCONFIGURED],
    )


@pytest.mark.parametrize(
    ("asked_s", "pause_s"), [(None, 1.0), (7.0, 7.0), (0.0, 0.0), (3_600.0, 30.0), (-5.0, 1.0)]
)
def test_one_that_is_full_is_left_alone_for_as_long_as_it_asks(asked_s: float | None, pause_s: float) -> None:
    record, change = step(fresh(0.0), BUSY, 5.0, LIMITS, retry_after_s=asked_s)
    assert (record.state, record.paused_until, change) == (State.SERVING, 5.0 + pause_s, None)


def test_one_that_stays_full_is_left_alone_for_longer() -> None:
    record, now, pauses = fresh(0.0), 0.0, []
    for _ in range(40):
        record, _ = run(record, BUSY, now=now)
        pauses.append(record.paused_until - now)
        now = record.paused_until
    assert pauses[:3] == [1.0, 2.0, 3.0]
    assert pauses[-1] == 30.0


def test_many_requests_turned_away_at_once_are_one_sign_of_being_full() -> None:
    record, _ = run(fresh(0.0), *[BUSY] * 100)
    assert (record.busy, record.paused_until) == (1, 1.0)


def test_a_pause_is_not_ended_by_the_answers_to_what_it_had_begun() -> None:
    record, _ = run(fresh(0.0), WAY, BUSY, ENGINE, ANSWERED)
    assert (record.paused_until, record.busy, record.engine_failures) == (1.0, 1, 0)
    assert run(record, ANSWERED, now=1.0)[0].busy == 0


def test_a_request_that_goes_well_costs_no_new_record() -> None:
    record = fresh(0.0)
    assert run(record, PICKED, ANSWERED)[0] is record


def test_the_slow_start_is_even() -> None:
    record = fresh(100.0)
    assert [round(weight(record, 100.0 + s, LIMITS), 3) for s in (-5, 0, 10, 20, 999)] == [
        0.1,
        0.1,
        0.55,
        1,
        1,
    ]
    assert weight(ejected(), 5.0, LIMITS) == 0.1


def test_without_a_slow_start_the_full_share_comes_at_once() -> None:
    assert weight(fresh(1.0), 1.0, OutlierLimits(slow_start_s=0.0)) == 1.0


#: What each event does in each state, where it comes alone: the state after it.
EXPECTED = {
    State.SERVING: {},
    State.EJECTED: {PICKED: State.PROBING},
    State.PROBING: {
        ANSWERED: State.SERVING,
        WAY: State.EJECTED,
        ENGINE: State.EJECTED,
        BUSY: State.EJECTED,
        REFUSED: State.MISCONFIGURED,
        LEFT: State.EJECTED,
    },
    State.MISCONFIGURED: {ANSWERED: State.SERVING},
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=str)
def test_the_whole_table(state: State, event: Event) -> None:
    record = Record(since=0.0, state=state, until=0.0 if state is not State.SERVING else float("-inf"))
    after, _ = run(record, event, now=5.0)
    assert after.state is EXPECTED[state].get(event, state)
    if event not in TRANSITIONS[state]:
        assert after is record


STEPS = st.lists(
    st.tuples(st.sampled_from(Event), st.floats(0, 40), st.none() | st.floats(0, 1e4)), max_size=80
)


@given(STEPS)
def test_whatever_comes_it_may_be_asked_again_in_bounded_time(
    steps: list[tuple[Event, float, float | None]],
) -> None:
    record, now = fresh(0.0), 0.0
    for event, wait_s, retry_after_s in steps:
        now += wait_s
        record, change = step(record, event, now, LIMITS, retry_after_s=retry_after_s)
        assert max(record.until, record.paused_until) <= now + LIMITS.max_ejection_s
        assert record.way_failures < 3
        assert record.engine_failures < 5
        assert record.refusals < 3
        assert LIMITS.least_weight <= weight(record, now, LIMITS) <= 1.0
        assert change is not Change.EJECTED or record.state is State.EJECTED


@given(STEPS)
def test_whatever_has_been_one_request_that_is_answered_brings_it_back(
    steps: list[tuple[Event, float, float | None]],
) -> None:
    record, now = fresh(0.0), 0.0
    for event, wait_s, retry_after_s in steps:
        now += wait_s
        record, _ = step(record, event, now, LIMITS, retry_after_s=retry_after_s)
    back, _ = run(record, PICKED, ANSWERED, now=max(now, record.until))
    assert back.state is State.SERVING
