"""Never none, if there are any."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.outlier import Record, State
from vastproxy.services.routing.usable import is_out, next_return, usable

WELL = Record(since=0.0)


def lost(until: float) -> Record:
    return Record(since=0.0, state=State.EJECTED, until=until, ejections=1, way_lost=True)


def failing(until: float) -> Record:
    return Record(since=0.0, state=State.EJECTED, until=until, ejections=1)


def paused(until: float) -> Record:
    return Record(since=0.0, paused_until=until)


RECORDS = st.one_of(
    st.just(WELL),
    st.builds(lost, st.floats(0, 100)),
    st.builds(failing, st.floats(0, 100)),
    st.builds(paused, st.floats(0, 100)),
    st.builds(lambda until: Record(0.0, State.PROBING, until), st.floats(0, 100)),
    st.builds(lambda until: Record(0.0, State.MISCONFIGURED, until), st.floats(0, 100)),
)


def test_where_all_are_well_all_are_usable() -> None:
    assert usable({3: WELL, 1: WELL}, 5.0) == [3, 1]
    assert usable({}, 5.0) == []


def test_one_that_is_alone_is_never_left_out() -> None:
    for record in (lost(99.0), failing(99.0), paused(99.0), Record(0.0, State.MISCONFIGURED, 99.0)):
        assert usable({1: record}, 5.0) == [1]


def test_of_two_the_one_that_is_well_is_left() -> None:
    assert usable({1: lost(99.0), 2: WELL}, 5.0) == [2]
    assert usable({1: failing(99.0), 2: WELL}, 5.0) == [2]


def test_of_three_two_that_cannot_be_reached_are_left_out_but_only_one_that_fails() -> None:
    assert usable({1: lost(99.0), 2: lost(50.0), 3: WELL}, 5.0) == [3]
    assert usable({1: failing(99.0), 2: failing(50.0), 3: WELL}, 5.0) == [2, 3]


def test_what_cannot_serve_is_left_out_before_what_fails() -> None:
    assert usable({1: failing(99.0), 2: lost(10.0), 3: WELL}, 5.0) == [1, 3]
    assert usable({1: failing(99.0), 2: paused(10.0)}, 5.0) == [1]


def test_where_none_is_well_the_one_whose_time_is_over_first_is_taken_back() -> None:
    assert usable({1: lost(30.0), 2: lost(20.0), 3: lost(40.0)}, 5.0) == [2]


def test_one_whose_time_is_over_is_usable() -> None:
    assert usable({1: lost(5.0), 2: WELL}, 5.0) == [1, 2]


@given(st.dictionaries(st.integers(0, 20), RECORDS, max_size=8), st.floats(0, 100))
def test_at_least_one_and_whoever_is_well_and_at_least_half_of_those_that_answer(
    records: dict[int, Record], now: float
) -> None:
    left = usable(records, now)
    assert bool(left) == bool(records)
    assert [key for key in records if key in left] == left
    assert {key for key, record in records.items() if not is_out(record, now)} <= set(left)
    errors_only = all(record == WELL or record.state is State.EJECTED for record in records.values())
    if errors_only and not any(record.way_lost for record in records.values()):
        assert len(left) * 2 >= len(records)


@given(st.dictionaries(st.integers(0, 20), RECORDS, max_size=8), st.floats(0, 100))
def test_the_next_return_is_when_the_first_of_those_left_out_may_be_asked(
    records: dict[int, Record], now: float
) -> None:
    soon = next_return(records, now)
    out = {key for key, record in records.items() if is_out(record, now)}
    assert (soon is None) == (not out)
    if soon is not None:
        assert soon > now
        assert any(not is_out(records[key], soon) for key in out)
