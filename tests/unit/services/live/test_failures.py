"""A storm of failures is told in few words, and none of it is left out of the count."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.events import RequestFailed
from vastproxy.services.live.failures import BURST, EVERY_S, MAX_CODES, FailureFilter


def failure(number: int, code: str = "backend_unreachable") -> RequestFailed:
    return RequestFailed(1, f"r{number}", "m", 502, code, "")


def test_few_failures_are_told_as_they_are() -> None:
    told = FailureFilter()
    for number in range(BURST):
        told.add(failure(number), 0.0)
    assert told.due(0.0) == [failure(number) for number in range(BURST)]
    assert told.due(100.0) == []


def test_of_a_storm_one_stands_for_the_others() -> None:
    told = FailureFilter()
    for number in range(BURST + 1000):
        told.add(failure(number), 0.0)
    assert len(told.due(0.0)) == BURST
    assert told.due(EVERY_S - 0.1) == []
    (last,) = told.due(EVERY_S)
    assert (last.request_id, last.more) == (f"r{BURST + 999}", 999)


def test_one_kind_does_not_hide_another() -> None:
    told = FailureFilter()
    for number in range(100):
        told.add(failure(number), 0.0)
    told.add(failure(1, "backend_timeout"), 0.0)
    assert failure(1, "backend_timeout") in told.due(0.0)


def test_codes_are_bounded() -> None:
    told = FailureFilter()
    for number in range(MAX_CODES * 10):
        told.add(failure(number, f"http_{number}"), 0.0)
    assert len(told.due(0.0)) <= MAX_CODES + BURST


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30), st.sampled_from(["a", "b", "c"])), max_size=30)
)
def test_all_are_counted_and_few_are_told(rounds: list[tuple[float, int, str]]) -> None:
    """Those told, with those that they stand for, are all that have failed; never more than the pace allows."""
    told = FailureFilter()
    now, failed, counted = 0.0, 0, 0
    by_code: dict[str, int] = {}
    for pause, count, code in rounds:
        now += pause
        for _ in range(count):
            told.add(failure(failed, code), now)
            failed += 1
        for event in told.due(now):
            counted += 1 + event.more
            by_code[event.code] = by_code.get(event.code, 0) + 1
    assert all(number <= BURST + now / EVERY_S + 1e-6 for number in by_code.values())
    for event in told.due(now + 1000):
        counted += 1 + event.more
    assert counted == failed
