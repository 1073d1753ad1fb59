"""May it be sent again?"""

import pytest

from vastproxy.services.errors import (
    BackendConnectError,
    BackendProtocolError,
    BackendTimeout,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.services.routing.retry import Retry, decide

DIED_SILENT = ResponseInterrupted("closed", received=False)
DIED_TALKING = ResponseInterrupted("closed", received=True)


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
    verdict = decide(error, reused=reused, replayable=True, response_started=False, attempts_left=2)
    assert verdict is expected


@pytest.mark.parametrize("error", [BackendConnectError("x"), DIED_SILENT], ids=str)
def test_nothing_is_sent_again_without_the_bytes_the_attempts_or_after_an_answer_began(
    error: Exception,
) -> None:
    assert decide(error, reused=True, replayable=False, response_started=False, attempts_left=2) is Retry.NO
    assert decide(error, reused=True, replayable=True, response_started=True, attempts_left=2) is Retry.NO
    assert decide(error, reused=True, replayable=True, response_started=False, attempts_left=0) is Retry.NO
