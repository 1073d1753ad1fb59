"""The order of tests that several processes share."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.order import woven


def items_of(sizes: list[int], kind: str) -> list[Any]:
    return [
        SimpleNamespace(path=Path(kind, f"test_{file}.py"), number=number)
        for file, size in enumerate(sizes)
        for number in range(size)
    ]


def waits(item: Any) -> bool:
    return "integration" in item.path.parts


@given(st.lists(st.integers(1, 9), max_size=9), st.lists(st.integers(1, 9), max_size=9))
def test_all_are_there_and_files_stay_together_and_in_order(waiting: list[int], others: list[int]) -> None:
    items = items_of(waiting, "integration") + items_of(others, "unit")
    order = cast(list[Any], woven(items, waits=waits))
    assert {id(item) for item in order} == {id(item) for item in items}
    assert len(order) == len(items)
    for kind in (True, False):
        assert [item for item in order if waits(item) is kind] == [
            item for item in items if waits(item) is kind
        ]
    changes = sum(first.path != second.path for first, second in pairwise(order))
    assert changes == max(0, len(waiting) + len(others) - 1)


def test_those_that_wait_are_spread() -> None:
    order = woven(items_of([10] * 10, "integration") + items_of([10] * 90, "unit"), waits=waits)
    for start in range(0, 1000, 250):
        assert 15 <= sum(map(waits, order[start : start + 250])) <= 35
