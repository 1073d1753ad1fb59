"""Filters, order, columns and pages of the list endpoint."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.simulator.errors import Refusal
from vastproxy.simulator.query import FALLBACK_LIMIT, MAX_LIMIT, holds, parse_query, run_query


def rows(count: int) -> list[dict[str, Any]]:
    names = ["RTX 4090", "H100 SXM", None]
    made = [{"id": i, "gpu_name": names[i % 3], "label": "a" if i % 2 else None} for i in range(count)]
    random.Random(count).shuffle(made)
    return made


def pages(data: list[dict[str, Any]], **params: str) -> list[dict[str, Any]]:
    """Every page's answer, following the tokens."""
    answers = [run_query(data, parse_query(params))]
    while (token := answers[-1]["next_token"]) is not None:
        answers.append(run_query(data, parse_query({**params, "after_token": token})))
        assert len(answers) < 100
    return answers


@pytest.mark.parametrize(
    ("written", "limit"),
    [(None, MAX_LIMIT), ("1", 1), ("25", 25), ("26", 25), ("0", FALLBACK_LIMIT), ("-3", FALLBACK_LIMIT)],
)
def test_limit(written: str | None, limit: int) -> None:
    """1 to 25, 25 without one, and what is not positive acts as 5."""
    assert parse_query({} if written is None else {"limit": written}).limit == limit


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"limit": "many"}, "invalid_args"),
        ({"select_filters": "{"}, "invalid_args"),
        ({"select_filters": "[]"}, "invalid_args"),
        ({"select_filters": '{"label": {"like": "x"}}'}, "invalid_args"),
        ({"select_filters": '{"label": "x"}'}, "invalid_args"),
        ({"select_filters": '{"dph_total": {"lt": 1}}'}, "invalid_request"),
        ({"order_by": '[{"col": "num_gpus"}]'}, "invalid_request"),
        ({"order_by": "{}"}, "invalid_args"),
        ({"order_by": '["id"]'}, "invalid_args"),
        ({"select_cols": '"id"'}, "invalid_args"),
        ({"select_cols": "[1]"}, "invalid_args"),
        ({"after_token": "not base64!"}, "invalid_token"),
        ({"after_token": "e30="}, "invalid_token"),
        ({"after_token": "W10="}, "invalid_token"),
    ],
)
def test_what_cannot_be_understood_is_a_400(params: dict[str, str], error: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_query(params)
    assert refused.value.http_status == 400
    assert refused.value.body["error"] == error


@given(
    count=st.integers(0, 60),
    limit=st.integers(1, 25),
    column=st.sampled_from(["id", "gpu_name", "label"]),
    descending=st.booleans(),
)
def test_pages_are_the_whole_list_in_order(count: int, limit: int, column: str, descending: bool) -> None:
    """Every row comes once, the pages joined are what one sort gives, and counts are right on each page."""
    data = rows(count)
    order = json.dumps([{"col": column, "dir": "desc" if descending else "asc"}])
    answers = pages(data, limit=str(limit), order_by=order)
    seen = [row for answer in answers for row in answer["instances"]]
    assert sorted(row["id"] for row in seen) == list(range(count))
    keys = [(row[column] is None, row[column] if row[column] is not None else 0) for row in seen]
    assert keys == sorted(keys, reverse=descending)
    for answer in answers:
        assert answer["instances_found"] == len(answer["instances"]) <= limit
        assert answer["total_instances"] == count
        assert sum(answer["label_counts"].values()) == count


def test_a_page_survives_rows_that_come_and_go() -> None:
    """The token names a place in the order, not a row: destroying the last row seen neither repeats nor skips."""
    data = [{"id": i} for i in range(10)]
    first = run_query(data, parse_query({"limit": "4"}))
    data = [row for row in data if row["id"] not in (3, 4)] + [{"id": 99}]
    second = run_query(data, parse_query({"limit": "25", "after_token": first["next_token"]}))
    assert [row["id"] for row in second["instances"]] == [5, 6, 7, 8, 9, 99]


def test_columns() -> None:
    """Only the wanted columns come; unknown ones are null; a star means all."""
    data = [{"id": 1, "label": "x"}]
    some = run_query(data, parse_query({"select_cols": '["id", "nonsense"]'}))
    assert some["instances"] == [{"id": 1, "nonsense": None}]
    assert run_query(data, parse_query({"select_cols": '["*"]'}))["instances"] == data


def test_filters_join_with_and() -> None:
    wanted = json.dumps({"gpu_name": {"in": ["RTX 4090"]}, "label": {"eq": "a"}})
    found = run_query(rows(12), parse_query({"select_filters": wanted}))
    assert [row["id"] for row in found["instances"]] == [3, 9]
    assert found["label_counts"] == {"a": 2}


@pytest.mark.parametrize(
    ("value", "operator", "wanted", "result"),
    [
        (3, "eq", 3, True),
        (3, "eq", "3", True),
        (3, "neq", 4, True),
        (3.5, "gt", "3", True),
        (3, "gt", 3, False),
        (3, "gte", 3, True),
        (2, "lt", 3, True),
        (3, "lte", 3, True),
        (4, "lte", 3, False),
        ("b", "gt", "a", True),
        (None, "gt", 0, False),
        (None, "lt", 0, False),
        ("x", "gt", 1, False),
        (3, "gt", "x", False),
        (None, "eq", None, True),
        ("x", "in", ["x", "y"], True),
        ("x", "in", "x", True),
        ("x", "notin", ["x", "y"], False),
        (None, "in", [None], True),
        (True, "eq", True, True),
        ([1], "eq", [1], True),
    ],
)
def test_conditions(value: Any, operator: str, wanted: Any, result: bool) -> None:
    """Null and other types never compare; numbers may be given as texts."""
    assert holds(value, operator, wanted) is result
