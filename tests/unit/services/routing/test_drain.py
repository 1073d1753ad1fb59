"""How fast the queue drains, and what that means for who is sent away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.drain import DrainRate, retry_after_s


def steady(per_s: float, seconds: float, begin: float = 0.0) -> DrainRate:
    rate = DrainRate()
    rate.begin(begin)
    for number in range(1, int(per_s * seconds) + 1):
        rate.granted(begin + number / per_s)
    return rate


@given(st.floats(0.2, 50), st.floats(20, 200), st.floats(0, 1e6))
def test_a_steady_rate_is_found_from_the_first_seconds_on(per_s: float, seconds: float, begin: float) -> None:
    found = steady(per_s, seconds, begin).per_s(begin + seconds)
    assert found == pytest.approx(per_s, rel=0.3)


def test_time_in_which_nobody_waits_does_not_count() -> None:
    rate = steady(2.0, 60.0)
    before = rate.per_s(60.0)
    rate.end(60.0)
    assert rate.per_s(3_600.0) == before
    rate.begin(3_600.0)
    assert rate.per_s(3_600.0) == before


def test_time_in_which_all_left_before_they_were_served_counts() -> None:
    rate = DrainRate()
    rate.begin(0.0)
    rate.granted(1.0)
    rate.end(40.0)
    after = rate.per_s(90.0)
    assert after is not None
    assert after < 0.03


def test_waiting_twice_is_waiting_once() -> None:
    rate = DrainRate()
    rate.begin(0.0)
    rate.granted(5.0)
    rate.begin(9.0)
    assert rate.per_s(10.0) == pytest.approx(0.1, rel=0.2)


def test_too_little_has_been_seen_at_first() -> None:
    rate = DrainRate()
    assert rate.per_s(0.0) is None
    rate.begin(0.0)
    rate.granted(0.5)
    assert rate.per_s(0.5) is None


def test_a_fleet_that_has_gone_is_noticed() -> None:
    rate = steady(10.0, 60.0)
    after = rate.per_s(60.0 + 300.0)
    assert after is not None
    assert after < 0.01


@pytest.mark.parametrize(
    ("ahead", "per_s", "expected"),
    [(0, None, 5), (0, 100.0, 1), (9, 1.0, 10), (9, 3.0, 4), (59, 1.0, 60), (1_000, 1.0, 60), (3, 0.0, 60)],
)
def test_who_is_sent_away_is_told_when_those_before_him_are_served(
    ahead: int, per_s: float | None, expected: int
) -> None:
    assert retry_after_s(ahead, per_s, unknown_s=5, max_s=60) == expected
