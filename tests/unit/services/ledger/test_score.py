"""How far a machine can be relied on: a number between 0 and 1 that errors and lost ways lower."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.ledger.score import score

hours = st.floats(1, 100_000)
many = st.integers(20, 10**7)
few = st.integers(0, 10**6)


@given(hours, many, few, few)
def test_it_is_a_share(hours: float, requests: int, errors: int, drops: int) -> None:
    found = score(hours, requests, errors, drops)
    assert found is not None
    assert 0 <= found <= 1


@given(hours, many, few, few, st.integers(1, 1000))
def test_more_trouble_is_never_better(
    hours: float, requests: int, errors: int, drops: int, more: int
) -> None:
    before = score(hours, requests, errors, drops)
    with_errors, with_drops = (
        score(hours, requests, errors + more, drops),
        score(hours, requests, errors, drops + more),
    )
    assert before is not None
    assert with_errors is not None
    assert with_drops is not None
    assert with_errors <= before
    assert with_drops <= before


@pytest.mark.parametrize(
    ("hours", "requests", "errors", "drops"), [(0.9, 1000, 0, 0), (50, 19, 0, 0), (0.5, 0, 0, 9)]
)
def test_too_little_is_known(hours: float, requests: int, errors: int, drops: int) -> None:
    assert score(hours, requests, errors, drops) is None


def test_one_without_fault_is_relied_on() -> None:
    assert score(1.0, 20, 0, 0) == 1.0
    assert score(500.0, 100_000, 0, 0) == 1.0


def test_what_the_numbers_mean() -> None:
    """One failure in ten, or four lost ways a day, halve it in the long run."""
    assert score(24_000, 90_000, 10_000, 0) == pytest.approx(0.5, abs=0.01)
    assert score(24_000, 100_000, 0, 4000) == pytest.approx(0.5, abs=0.01)


def test_one_bad_hour_is_no_verdict() -> None:
    found = score(1.0, 40, 1, 1)
    assert found is not None
    assert found > 0.5


def test_lost_ways_alone_are_enough_to_judge() -> None:
    assert score(48.0, 0, 0, 30) is not None
