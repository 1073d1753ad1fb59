"""Pauses between attempts to connect."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.backoff import Backoff


@given(st.floats(0.001, 1e4), st.floats(1, 1e4), st.integers(-5, 10**9), st.integers())
def test_a_pause_is_always_within_its_bounds(min_s: float, factor: float, failures: int, seed: int) -> None:
    backoff = Backoff(min_s, min_s * factor)
    assert backoff.min_s <= backoff.next(failures, random.Random(seed)) <= backoff.max_s


def test_pauses_double_from_the_first_failure_on_until_the_limit() -> None:
    backoff = Backoff(5, 300)
    rng = random.Random(1)
    for failures in range(1, 7):
        nominal_s = 5 * 2 ** (failures - 1)
        assert all(nominal_s <= backoff.next(failures, rng) <= nominal_s * 1.5 for _ in range(100))
    assert all(200 <= backoff.next(20, rng) <= 300 for _ in range(100))


def test_two_proxies_do_not_come_back_together() -> None:
    backoff = Backoff(5, 300)
    pauses = {backoff.next(3, random.Random(seed)) for seed in range(50)}
    assert len(pauses) == 50
    assert max(pauses) - min(pauses) > 5


def test_equal_bounds_leave_no_room() -> None:
    assert Backoff(5, 5).next(9, random.Random(0)) == 5


@pytest.mark.parametrize(("min_s", "max_s"), [(5, 4), (-1, 4), (0, float("inf")), (float("nan"), 1)])
def test_impossible_bounds_are_refused(min_s: float, max_s: float) -> None:
    with pytest.raises(ValueError, match="min_s <= max_s"):
        Backoff(min_s, max_s)
