"""What nvidia-smi is asked, also when a driver does not know a field."""

import re

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_query import (
    FULL_FIELDS,
    LAST_REFUSALS,
    MINIMAL_FIELDS,
    MOST_REFUSALS,
    OTHER_NAMES,
    SAMPLED_FIELDS,
    GpuQuery,
    next_query,
)


def refusal(field: str) -> str:
    return f'Field "{field}" is not a valid field to query.\n\n'


def test_the_command_ends_in_its_own_time_and_asks_for_all_at_once() -> None:
    assert GpuQuery(MINIMAL_FIELDS).command() == (
        "timeout 10 env LC_ALL=C nvidia-smi --query-gpu=index,name,utilization.gpu,memory.used,memory.total,"
        "temperature.gpu --format=csv,noheader,nounits"
    )
    assert set(SAMPLED_FIELDS) | set(MINIMAL_FIELDS) <= set(FULL_FIELDS) == set(GpuQuery().fields)
    assert len(set(FULL_FIELDS)) == len(FULL_FIELDS)


def test_no_refusal_no_other_query() -> None:
    assert next_query(GpuQuery(), "0, X\n") is None
    assert next_query(GpuQuery(), "") is None


def test_a_refused_field_is_left_out_and_all_others_stay() -> None:
    query = next_query(GpuQuery(), refusal("temperature.memory"))
    assert query == GpuQuery(tuple(f for f in FULL_FIELDS if f != "temperature.memory"), 1)


def test_an_older_driver_is_asked_by_the_older_name() -> None:
    """And a driver that knows neither is not asked."""
    query = next_query(GpuQuery(), refusal("clocks_event_reasons.active"))
    assert query is not None
    older = OTHER_NAMES["clocks_event_reasons.active"]
    assert query.fields.index(older) == FULL_FIELDS.index("clocks_event_reasons.active")
    again = next_query(query, refusal(older))
    assert again is not None
    assert len(again.fields) == len(FULL_FIELDS) - 1


def test_what_is_refused_for_no_reason_we_know_gets_the_minimal_query() -> None:
    assert next_query(GpuQuery(), refusal("unheard.of")) == GpuQuery(MINIMAL_FIELDS, 1)
    assert next_query(GpuQuery(), "is not a valid field") == GpuQuery(MINIMAL_FIELDS, 1)
    assert next_query(GpuQuery(), refusal("index")) == GpuQuery(MINIMAL_FIELDS, 1)


def test_the_minimal_query_is_the_last() -> None:
    assert next_query(GpuQuery(MINIMAL_FIELDS), refusal("name")) is None


def test_a_driver_that_knows_little_is_asked_for_the_usual_before_the_minimum() -> None:
    query = GpuQuery()
    for field in FULL_FIELDS[-MOST_REFUSALS:]:
        assert len(query.fields) > len(SAMPLED_FIELDS)
        query = next_query(query, refusal(field)) or query
    assert query == GpuQuery(SAMPLED_FIELDS, MOST_REFUSALS)
    query = next_query(query, refusal("uuid")) or query
    assert query.fields == tuple(field for field in SAMPLED_FIELDS if field != "uuid")


@given(st.sets(st.sampled_from(FULL_FIELDS)))
def test_any_driver_is_asked_what_it_knows_after_a_bounded_number_of_refusals(
    unknown: set[str],
) -> None:
    """A driver that refuses one field at a time, as they do, ends with an answer or the minimal query."""
    query: GpuQuery | None = GpuQuery()
    for _ in range(LAST_REFUSALS + 1):
        assert query is not None
        refused = [field for field in query.fields if field in unknown]
        if not refused or query.fields == MINIMAL_FIELDS:
            break
        query = next_query(query, refusal(refused[0]))
    assert query is not None
    assert query.fields == MINIMAL_FIELDS or not set(query.fields) & unknown


@given(st.text())
def test_no_text_makes_it_raise(output: str) -> None:
    query = next_query(GpuQuery(), output + " is not a valid field")
    assert query is not None
    assert "index" in query.fields
    assert re.fullmatch(r"[^;&|<>()`$\n]*", query.command())
