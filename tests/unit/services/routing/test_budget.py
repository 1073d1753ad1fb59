"""The share of the load that may be asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.budget import RetryBudget


@pytest.mark.parametrize(
    ("in_flight", "allowed"), [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (100, 20), (104, 20), (105, 21)]
)
def test_a_fifth_of_what_is_in_flight_may_be_asked_again_and_three_at_least(
    in_flight: int, allowed: int
) -> None:
    budget = RetryBudget()
    assert budget.allowed(in_flight) == allowed
    assert [budget.take(in_flight) for _ in range(allowed + 2)] == [True] * allowed + [False] * 2
    assert (budget.taken, budget.refused) == (allowed, 2)
    assert repr(budget) == f"<RetryBudget taken={allowed} refused=2>"


def test_what_is_given_back_may_be_taken_again() -> None:
    budget = RetryBudget(share=0.0, least=1)
    assert budget.take(50)
    assert not budget.take(50)
    budget.give_back()
    assert budget.take(50)


def test_a_budget_of_nothing_allows_nothing() -> None:
    assert not RetryBudget(share=0.0, least=0).take(1_000)


def test_giving_back_what_was_not_taken_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        RetryBudget().give_back()


@pytest.mark.parametrize("limits", [{"share": -0.1}, {"share": 1.1}, {"least": -1}])
def test_limits_without_a_meaning_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="share"):
        RetryBudget(**limits)  # type: ignore[arg-type]  # one of each kind


@given(st.lists(st.integers(0, 200), max_size=60), st.floats(0, 1), st.integers(0, 10))
def test_retries_under_way_never_exceed_what_the_load_allows_when_they_begin(
    loads: list[int], share: float, least: int
) -> None:
    budget = RetryBudget(share=share, least=least)
    for in_flight in loads:
        before = budget.taken
        if budget.take(in_flight):
            assert budget.taken == before + 1 <= max(least, share * in_flight)
        elif budget.taken:
            budget.give_back()
