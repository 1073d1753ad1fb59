"""Percentiles and the reading of samples: what every table stands on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Results, describe_latency, percentile, ratio, spread


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.01) == 7


@given(st.lists(st.integers(0, 10**9), min_size=1), st.floats(0.01, 1))
def test_at_least_that_share_of_the_values_is_not_greater(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_latency_is_told_in_milliseconds_whatever_the_order() -> None:
    found = describe_latency([3_000_000, 1_000_000, 2_000_000])
    assert found == {"p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 3.0, "max_ms": 3.0}
    assert describe_latency([]) is None


def test_rounds_are_told_by_their_median_and_both_ends() -> None:
    found = spread([5.0, 1.0, 3.0])
    assert found is not None
    assert (found.median, found.low, found.high, found.rounds) == (3.0, 1.0, 5.0, 3)
    assert spread([]) is None


def sample(contender: str, round_number: int, **figures: float) -> dict[str, object]:
    return {"work": "json-32", "contender": contender, "round": round_number, "figures": figures}


def test_results_find_figures_over_all_rounds() -> None:
    failed = {"work": "json-32", "contender": "litellm", "round": 1, "error": "it did not start"}
    results = Results(
        {"samples": [sample("a", 1, rps=10), sample("b", 1, rps=5), sample("a", 2, rps=30), failed]}
    )
    assert results.median("json-32", "a", "rps") == 20
    assert results.get("json-32", "a", "p50_ms") is None
    assert results.median("json-1", "a", "rps") is None
    assert results.contenders("json-32") == ["a", "b", "litellm"]
    assert results.works == ["json-32"]
    assert results.error("json-32", "litellm") == "it did not start"
    assert results.error("json-32", "a") is None


def test_a_ratio_needs_both_sides() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None
