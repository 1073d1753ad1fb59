"""`next_pause_s`: when another try makes sense, and after how long."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vastproxy.settings.model import RetrySettings
from vastproxy.vastai.errors import VastProtocolError, VastRateLimited, VastRejected, VastUnavailable
from vastproxy.vastai.retry import next_pause_s

SETTINGS = RetrySettings(attempts=4, base_s=2.0, max_s=30.0)


@settings(deadline=None)
@given(attempt=st.integers(1, 3), seed=st.integers())
def test_the_pause_is_somewhere_below_a_doubling_ceiling(attempt: int, seed: int) -> None:
    pause = next_pause_s(VastUnavailable("x"), attempt, SETTINGS, random.Random(seed))
    assert pause is not None
    assert 0 <= pause <= min(30.0, 2.0 * 2 ** (attempt - 1))


@settings(deadline=None)
@given(asked=st.floats(0, 30), seed=st.integers())
def test_never_sooner_than_asked_for(asked: float, seed: int) -> None:
    pause = next_pause_s(VastRateLimited("x", retry_after_s=asked), 1, SETTINGS, random.Random(seed))
    assert pause is not None
    assert pause >= asked


@pytest.mark.parametrize(
    ("error", "attempt"),
    [
        (VastUnavailable("x"), 4),
        (VastRejected("x"), 1),
        (VastRateLimited("x", "search_quota_exceeded", False), 1),
        (VastRateLimited("x", retry_after_s=31.0), 1),
        (VastProtocolError("x"), 2),
    ],
    ids=["tries used up", "final", "quota", "longer than we wait", "unreadable twice"],
)
def test_giving_up(error: VastUnavailable, attempt: int) -> None:
    assert next_pause_s(error, attempt, SETTINGS, random.Random(1)) is None


def test_an_unreadable_answer_is_asked_for_once_more() -> None:
    assert next_pause_s(VastProtocolError("x"), 1, SETTINGS, random.Random(1)) is not None
