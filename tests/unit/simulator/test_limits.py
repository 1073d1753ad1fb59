"""How often an endpoint may be called."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.simulator.limits import LIMITS, Endpoint, Limit, RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_second_call_within_the_interval_is_refused_and_does_not_count() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    assert limits.admit("me", Endpoint.SHOW) is None
    clock.now += 1.5
    excess = limits.admit("me", Endpoint.SHOW)
    assert excess is not None
    assert excess.limit == Limit(1, 2.0)
    assert excess.wait_s == 0.5
    clock.now += 0.5
    assert limits.admit("me", Endpoint.SHOW) is None


def test_limits_are_per_endpoint_and_identity() -> None:
    limits = RateLimits(Clock())
    assert limits.admit("me", Endpoint.LIST_V1) is None
    assert limits.admit("me", Endpoint.UPDATE) is None
    assert limits.admit("you", Endpoint.LIST_V1) is None
    assert limits.admit("me", Endpoint.LIST_V1) is not None


def test_offer_search_is_counted_per_minute() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    assert all(limits.admit("me", Endpoint.SEARCH) is None for _ in range(10))
    assert limits.admit("me", Endpoint.SEARCH) is not None
    clock.now += 60
    assert limits.admit("me", Endpoint.SEARCH) is None


def test_switched_off_and_unlimited_endpoints_admit_all() -> None:
    limits = RateLimits(Clock(), enabled=False)
    assert all(limits.admit("me", Endpoint.LIST_V1) is None for _ in range(5))
    limits.enabled = True
    assert all(limits.admit("me", Endpoint.USER) is None for _ in range(5))


def test_a_clock_that_jumps_back_blocks_nobody() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    assert limits.admit("me", Endpoint.LIST_V1) is None
    clock.now -= 500
    assert limits.admit("me", Endpoint.LIST_V1) is None


@given(steps=st.lists(st.floats(0, 3), max_size=60))
def test_admitted_calls_keep_their_distance(steps: list[float]) -> None:
    """Whenever calls come, those admitted are never closer than the limit."""
    clock, admitted = Clock(), []
    limits = RateLimits(clock)
    for step in steps:
        clock.now += step
        if limits.admit("me", Endpoint.LIST_V1) is None:
            admitted.append(clock.now)
    period = LIMITS[Endpoint.LIST_V1].period_s
    assert all(later - earlier >= period for earlier, later in itertools.pairwise(admitted))
