"""An hour of small numbers: nothing is lost before its time, nothing grows, what is not known stays unknown."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.live.history import STEPS, History, Point, point_json

EMPTY = Point(*([None] * len(Point._fields)))
numbers = st.none() | st.floats(0, 1e6, width=32)


def point(**values: float) -> Point:
    return EMPTY._replace(**values)


def test_what_was_put_in_comes_out() -> None:
    history = History()
    history.add(3, point(requests=17, ttft_p50_ms=12.5, healthy=True))
    history.add(4, EMPTY)
    assert list(history.rows(0)) == [
        (3, point(requests=17.0, ttft_p50_ms=12.5, healthy=1.0)),
        (4, EMPTY),
    ]
    assert list(history.rows(4)) == [(4, EMPTY)]
    assert list(history.rows(5)) == []


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(1, 3), numbers), max_size=40), st.integers(-2, 60))
def test_the_last_rows_in_order(steps: int, added: list[tuple[int, float | None]], first: int) -> None:
    """Whatever is added: the last `steps` rows are there, and sums are those of the rows."""
    history = History(steps)
    expected: list[tuple[int, Point]] = []
    number = 0
    for gap, value in added:
        number += gap
        row = EMPTY._replace(errors=value)
        history.add(number, row)
        expected.append((number, row))
    expected = [each for each in expected[-steps:] if each[0] >= first]
    assert len(history) == min(len(added), steps)
    assert list(history.rows(first)) == expected
    total = history.sum_of(Point._fields.index("errors"), first)
    assert abs(total - sum(row.errors or 0.0 for _, row in expected)) <= 1e-6 * max(total, 1.0)


def test_an_hour_is_bounded() -> None:
    history = History()
    for step in range(STEPS * 3):
        history.add(step, EMPTY)
    assert len(history) == STEPS
    assert history.size_bytes == 17_280


def test_counts_are_exact_up_to_what_four_bytes_hold() -> None:
    history = History()
    history.add(0, point(tokens_out=2**24 - 1))
    ((_, row),) = history.rows(0)
    assert row.tokens_out == 2**24 - 1


def test_a_row_for_showing() -> None:
    told = point_json(
        point(requests=3.0, dollars_per_hour=0.31234, gpu_percent=41.26, in_flight=2.0), 1000.04
    )
    assert told == {
        "at_unix": 1000.0,
        "requests": 3,
        "errors": None,
        "tokens_in": None,
        "tokens_out": None,
        "ttft_p50_ms": None,
        "in_flight": 2,
        "waiting": None,
        "gpu_percent": 41.3,
        "gpu_memory_percent": None,
        "dollars_per_hour": 0.3123,
        "healthy": None,
    }
