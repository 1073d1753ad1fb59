"""What a key may use in a minute and at a time, whoever asks when."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.access.limits import (
    MAX_DEBT_MIN,
    UNMETERED,
    Bucket,
    Meter,
    Refusal,
    Visit,
    duration,
    enter,
    needs_meter,
)
from vastproxy.services.access.records import KeyLimits

PAUSES = st.lists(st.floats(0, 90) | st.sampled_from([0.0, 0.0, 1.0, 60.0]), min_size=1, max_size=120)


def moments(pauses: Sequence[float], begin: float = 1_000.0) -> list[float]:
    found, now = [], begin
    for pause in pauses:
        now += pause
        found.append(now)
    return found


@given(st.integers(1, 200), PAUSES)
def test_never_more_requests_than_the_rate_and_one_bucket_in_any_window(
    rpm: int, pauses: list[float]
) -> None:
    meter = Meter(KeyLimits(requests_per_min=rpm), 0.0)
    begun = [now for now in moments(pauses) if meter.begin(now) is None]
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            window_s = begun[last] - begun[first]
            assert last - first + 1 <= rpm + window_s * rpm / 60 + 1e-3


@given(st.integers(1, 200), PAUSES)
def test_who_asks_no_faster_than_the_rate_is_never_refused(rpm: int, pauses: list[float]) -> None:
    meter, now = Meter(KeyLimits(requests_per_min=rpm), 0.0), 0.0
    for pause in pauses:
        now += 60 / rpm + pause
        assert meter.begin(now) is None


@given(st.integers(1, 1_000), PAUSES)
def test_who_waits_as_long_as_he_is_told_is_let_in_and_earlier_by_a_second_is_not(
    rpm: int, pauses: list[float]
) -> None:
    meter = Meter(KeyLimits(requests_per_min=rpm), 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        refusal = meter.begin(now)
        if refusal is not None:
            if refusal.retry_after_s > 1:
                early = meter.begin(now + refusal.retry_after_s - 1)
                assert early is not None
            now += refusal.retry_after_s
            assert meter.begin(now) is None


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3_000)), min_size=1, max_size=100),
)
def test_tokens_keep_to_their_rate_but_for_the_last_answer(tpm: int, steps: list[tuple[float, int]]) -> None:
    """Where one request runs at a time, and none uses more than the longest debt: what was used before the last one
    began is within the rate and one bucket."""
    meter, now, used, last = Meter(KeyLimits(tokens_per_min=tpm), 0.0), 0.0, 0, 0
    for pause, tokens in steps:
        now += pause
        if meter.begin(now) is None:
            assert used <= tpm + now * tpm / 60 + 1e-3
            last = min(tokens, int(MAX_DEBT_MIN * tpm))
            used += last
            meter.end(last, now)


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=200))
def test_never_more_at_a_time_than_the_limit_and_each_end_frees_one(most: int, steps: list[bool]) -> None:
    meter = Meter(KeyLimits(concurrent=most), 0.0)
    running: list[Visit] = []
    for begins in steps:
        if begins:
            visit = enter(meter, 0.0)
            assert isinstance(visit, Refusal) == (len(running) == most)
            if isinstance(visit, Visit):
                running.append(visit)
        elif running:
            running.pop().end(0.0)
        assert meter.in_flight == len(running) <= most


def test_a_refused_request_costs_nothing() -> None:
    meter = Meter(KeyLimits(requests_per_min=2, concurrent=1), 0.0)
    assert meter.begin(0.0) is None
    for _ in range(5):
        refusal = meter.begin(0.0)
        assert refusal is not None
        assert "1 requests running" in refusal.message
    meter.end(0, 0.0)
    assert meter.begin(0.0) is None


def test_tokens_are_charged_afterwards_and_a_debt_is_worked_off() -> None:
    meter = Meter(KeyLimits(tokens_per_min=60), 0.0)
    assert meter.begin(0.0) is None
    meter.end(180, 0.0)
    refusal = meter.begin(0.0)
    assert refusal is not None
    assert (refusal.kind, refusal.retry_after_s) == ("tokens", 121)
    assert meter.begin(120.0) is not None
    assert meter.begin(121.0) is None


def test_a_false_figure_of_an_engine_locks_nobody_out_for_long() -> None:
    meter = Meter(KeyLimits(tokens_per_min=600), 0.0)
    assert meter.begin(0.0) is None
    meter.end(10**30, 0.0)
    refusal = meter.begin(0.0)
    assert refusal is not None
    assert refusal.retry_after_s <= MAX_DEBT_MIN * 60 + 1


def test_a_clock_that_stands_still_or_is_asked_late_makes_nothing_up() -> None:
    bucket = Bucket(60, 10.0)
    bucket.take(60, 10.0)
    assert bucket.left(5.0) == 0
    assert bucket.left(11.0) == 1
    assert bucket.left(1e9) == 60


def test_changed_limits_keep_what_was_used_and_what_runs() -> None:
    meter = Meter(KeyLimits(requests_per_min=10, tokens_per_min=100), 0.0)
    for _ in range(10):
        assert meter.begin(0.0) is None
    meter.adopt(KeyLimits(requests_per_min=12, concurrent=11), 0.0)
    assert meter.begin(0.0) is None
    refusal = meter.begin(0.0)
    assert refusal is not None
    assert "11 requests running" in refusal.message
    meter.adopt(KeyLimits(), 0.0)
    assert meter.begin(0.0) is None
    assert meter.in_flight == 12


def test_without_limits_there_is_nothing_to_count() -> None:
    assert not needs_meter(KeyLimits(models=("a",), priority="batch"))
    assert needs_meter(KeyLimits(concurrent=1))
    visit = enter(None, 0.0)
    assert visit is UNMETERED
    visit.end(0.0, 5)
    assert (visit.headers(0.0), visit.wants_tokens) == ([], False)


def test_a_visit_ends_once() -> None:
    meter = Meter(KeyLimits(concurrent=5, tokens_per_min=100), 0.0)
    visit = enter(meter, 0.0)
    assert isinstance(visit, Visit)
    assert visit.wants_tokens
    visit.end(0.0, 30)
    visit.end(0.0, 30)
    assert meter.in_flight == 0
    assert dict(meter.headers(0.0))[b"x-ratelimit-remaining-tokens"] == b"70"


def test_the_headers_are_those_of_openai() -> None:
    meter = Meter(KeyLimits(requests_per_min=60, tokens_per_min=6_000), 0.0)
    visit = enter(meter, 0.0)
    assert isinstance(visit, Visit)
    assert visit.headers(0.0) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"6000"),
        (b"x-ratelimit-remaining-tokens", b"6000"),
        (b"x-ratelimit-reset-tokens", b"0ms"),
    ]
    visit.end(0.0, 12_000)
    headers = dict(meter.headers(0.0))
    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"
    assert headers[b"x-ratelimit-reset-tokens"] == b"2m0s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, b"0ms"), (0.0201, b"21ms"), (0.02, b"20ms"), (1, b"1s"), (59.2, b"1m0s"), (360, b"6m0s")],
)
def test_durations(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text
