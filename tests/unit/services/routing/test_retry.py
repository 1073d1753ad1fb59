"""May it be sent again?"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.errors import (
    BackendConnectError,
    BackendProtocolError,
    BackendTimeout,
    NoStreamLeft,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.services.routing.retry import (
    Retry,
    costs,
    decide,
    decide_answer,
    is_repeatable,
    retry_after_s,
)

DIED_SILENT = ResponseInterrupted("closed", received=False)
DIED_TALKING = ResponseInterrupted("closed", received=True)
NEVER_SENT = BackendConnectError("the tunnel ended")
WAY_LOST = ResponseInterrupted("the tunnel ended", received=False)
WAY_LOST_LATER = ResponseInterrupted("the tunnel ended", received=True)
for error in (NEVER_SENT, WAY_LOST, WAY_LOST_LATER):
    error.way_lost = True


def verdict(error: Exception, **over: Any) -> Retry:
    facts: dict[str, Any] = {
        "reused": False,
        "replayable": True,
        "repeatable": True,
        "way_left": True,
        "response_started": False,
        "attempts_left": 2,
    }
    return decide(error, **(facts | over))


@pytest.mark.parametrize(
    ("error", "reused", "expected"),
    [
        (BackendConnectError("refused"), False, Retry.ELSEWHERE),
        (TunnelLost("gone"), False, Retry.ELSEWHERE),
        (DIED_SILENT, True, Retry.SAME_BACKEND),
        (DIED_SILENT, False, Retry.NO),
        (DIED_TALKING, True, Retry.NO),
        (BackendTimeout("slow", phase="headers"), True, Retry.NO),
        (BackendProtocolError("garbage"), True, Retry.NO),
    ],
    ids=str,
)
def test_only_what_was_certainly_not_begun_is_sent_again(
    error: Exception, reused: bool, expected: Retry
) -> None:
    assert verdict(error, reused=reused) is expected


@pytest.mark.parametrize("error", [BackendConnectError("x"), DIED_SILENT, NEVER_SENT, WAY_LOST], ids=str)
def test_nothing_is_sent_again_without_the_bytes_the_attempts_or_after_an_answer_began(
    error: Exception,
) -> None:
    assert verdict(error, reused=True, replayable=False) is Retry.NO
    assert verdict(error, reused=True, response_started=True) is Retry.NO
    assert verdict(error, reused=True, attempts_left=0) is Retry.NO


@pytest.mark.parametrize("reused", [False, True])
def test_a_question_whose_ssh_connection_ended_is_asked_again_over_another_one(reused: bool) -> None:
    assert verdict(WAY_LOST, reused=reused) is Retry.SAME_BACKEND
    assert verdict(WAY_LOST, reused=reused, way_left=False) is Retry.ELSEWHERE
    assert verdict(WAY_LOST_LATER, reused=reused) is Retry.NO


def test_what_may_change_something_is_not_sent_twice_because_an_ssh_connection_ended() -> None:
    assert verdict(WAY_LOST, repeatable=False) is Retry.NO
    assert verdict(NEVER_SENT, repeatable=False) is Retry.SAME_BACKEND


def test_a_process_that_is_full_is_full_for_every_backend() -> None:
    assert verdict(NoStreamLeft("all 330 streams are in use")) is Retry.NO


def test_another_way_to_the_same_instance_is_no_use_when_the_instance_refused() -> None:
    assert verdict(BackendConnectError("the port is closed"), way_left=True) is Retry.ELSEWHERE


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (b"POST", b"/v1/chat/completions", True),
        (b"POST", b"/api/generate", True),
        (b"GET", b"/anything", True),
        (b"HEAD", b"/", True),
        (b"POST", b"/v1/files", False),
        (b"DELETE", b"/v1/files/1", False),
        (b"POST", b"/v1/fine_tuning/jobs", False),
    ],
)
def test_questions_to_a_model_and_reads_are_repeatable(method: bytes, path: bytes, expected: bool) -> None:
    assert is_repeatable(method, path) is expected


def test_without_a_budget_engines_are_given_nothing_more_to_do() -> None:
    assert verdict(WAY_LOST, way_left=False, budget_left=False) is Retry.NO


@pytest.mark.parametrize("error", [BackendConnectError("refused"), TunnelLost("gone")], ids=str)
def test_what_reached_no_engine_needs_no_budget(error: Exception) -> None:
    assert verdict(error, budget_left=False) is Retry.ELSEWHERE
    assert not costs(Retry.ELSEWHERE, error)


def test_a_new_connection_to_the_same_engine_needs_no_budget() -> None:
    assert verdict(DIED_SILENT, reused=True, budget_left=False) is Retry.SAME_BACKEND
    assert verdict(WAY_LOST, budget_left=False) is Retry.SAME_BACKEND
    assert not costs(Retry.SAME_BACKEND, WAY_LOST)


def test_another_engine_that_is_given_the_work_costs() -> None:
    assert costs(Retry.ELSEWHERE, WAY_LOST)
    assert costs(Retry.ELSEWHERE, None)
    assert not costs(Retry.NO, WAY_LOST)


def answer_verdict(status: int, **over: Any) -> Retry:
    facts: dict[str, Any] = {
        "replayable": True,
        "repeatable": True,
        "others": True,
        "attempts_left": 1,
        "budget_left": True,
    }
    return decide_answer(status, **(facts | over))


@pytest.mark.parametrize("status", [401, 429, 503])
def test_an_engine_that_does_not_begin_leaves_the_request_to_another_one(status: int) -> None:
    assert answer_verdict(status) is Retry.ELSEWHERE
    for missing in ("replayable", "repeatable", "others", "budget_left"):
        assert answer_verdict(status, **{missing: False}) is Retry.NO
    assert answer_verdict(status, attempts_left=0) is Retry.NO


@pytest.mark.parametrize("status", [200, 400, 403, 404, 408, 500, 501, 502, 504])
def test_every_other_answer_is_the_clients(status: int) -> None:
    assert answer_verdict(status) is Retry.NO


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"", None),
        (b"0", 0.0),
        (b" 120 ", 120.0),
        (b"1.5", None),
        (b"-3", None),
        (b"soon", None),
        (b"9" * 400, 999_999_999.0),
        ("٣".encode(), None),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", 59.0),
        (b"Fri, 31 Dec 1999 23:59:59 -0000", 59.0),
        (b"Fri, 31 Dec 1999 23:58:59 GMT", 0.0),
        (b"Fri, 31 Dec 99999999999999 23:58:59 GMT", None),
        (b"Fri, 99 Dec 1999 23:58:59 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(value: bytes | None, expected: float | None) -> None:
    assert retry_after_s(value, wall_now=946_684_740.0) == expected


@given(st.binary(max_size=60))
def test_whatever_an_engine_writes_there_is_no_crash(value: bytes) -> None:
    found = retry_after_s(value, wall_now=1e9)
    assert found is None or found >= 0
