"""From observations to verdicts."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.health import Observation, Record, judge
from vastproxy.services.backends.state import Event

GOOD, ABSENT, BAD = Observation.GOOD, Observation.ABSENT, Observation.BAD


def verdicts(*seen: Observation, after: int = 3, alive: bool = False) -> list[Event | None]:
    record, events = Record(), []
    for observation in seen:
        record, event = judge(record, observation, unhealthy_after=after, traffic_alive=alive)
        events.append(event)
    return events


def test_one_good_probe_is_enough_to_serve() -> None:
    assert verdicts(GOOD) == [Event.SERVING]


def test_a_backend_that_never_served_needs_no_streak_to_fail() -> None:
    assert verdicts(BAD) == [Event.FAILING]


def test_a_serving_backend_is_failing_after_the_streak_and_not_before() -> None:
    assert verdicts(GOOD, BAD, BAD, BAD) == [Event.SERVING, None, None, Event.FAILING]


def test_a_good_probe_ends_the_streak_however_often_bad_ones_come() -> None:
    """fail-pass-fail-pass-fail is not three failures in a row."""
    assert Event.FAILING not in verdicts(GOOD, BAD, BAD, GOOD, BAD, BAD, GOOD, BAD, BAD)


def test_what_is_certainly_absent_fails_at_once() -> None:
    assert verdicts(GOOD, ABSENT) == [Event.SERVING, Event.FAILING]


@given(st.lists(st.just(BAD), max_size=20))
def test_live_traffic_outweighs_bad_probes(bad: list[Observation]) -> None:
    """A backend that is answering requests is not made unhealthy by probes that time out."""
    assert Event.FAILING not in verdicts(GOOD, *bad, alive=True)


@given(st.lists(st.sampled_from(list(Observation))), st.integers(1, 5))
def test_failing_needs_a_reason(seen: list[Observation], after: int) -> None:
    """FAILING comes only with an ABSENT, or at the end of a full streak, or before anything was ever good."""
    record, streak = Record(), 0
    for observation in seen:
        was_serving = record.serving
        record, event = judge(record, observation, unhealthy_after=after)
        streak = 0 if observation is GOOD else streak + 1
        if event is Event.FAILING:
            assert observation is ABSENT or not was_serving or streak >= after
        assert record.serving is (event is Event.SERVING or (was_serving and event is None))
