"""A shared hour's rent is given to those it was for, all of it, and to nobody else."""

import math

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.ledger.share import UNFINISHED, WorkedHour, shares


def given_out(*hours: WorkedHour) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, dollars in shares(hours):
        sums[name] = sums.get(name, 0.0) + dollars
    return sums


served = st.dictionaries(
    st.sampled_from("abc"), st.tuples(st.integers(0, 10**9), st.integers(0, 1000)), max_size=3
)
worked = st.tuples(st.integers(0, 5), st.integers(1, 3), st.floats(0, 1000), served)


@given(st.lists(worked, max_size=12))
def test_the_parts_are_the_whole(hours: list[WorkedHour]) -> None:
    sums = given_out(*sorted(hours, key=lambda hour: hour[:2]))
    assert all(dollars >= 0 for dollars in sums.values())
    whole = sum(dollars for _, _, dollars, _ in hours)
    assert math.isclose(sum(sums.values()), whole, rel_tol=1e-9, abs_tol=1e-9)


def test_by_tokens() -> None:
    assert given_out((0, 1, 4.0, {"a": (300, 1), "b": (100, 9)})) == {"a": 3.0, "b": 1.0}


def test_by_requests_where_nobody_has_tokens() -> None:
    assert given_out((0, 1, 4.0, {"a": (0, 1), "b": (0, 3)})) == {"a": 1.0, "b": 3.0}


def test_work_whose_end_comes_later_belongs_to_what_ends_then() -> None:
    hours: tuple[WorkedHour, ...] = (
        (0, 1, 1.0, {}),
        (0, 2, 10.0, {"b": (1, 1)}),
        (1, 1, 2.0, {}),
        (2, 1, 4.0, {"a": (5, 1)}),
    )
    assert given_out(*hours) == {"a": 7.0, "b": 10.0}


def test_work_that_has_not_ended_is_told_apart() -> None:
    assert given_out((0, 1, 1.0, {"a": (1, 1)}), (1, 1, 2.0, {})) == {"a": 1.0, UNFINISHED: 2.0}
