"""The same bytes through vastproxy and through nginx: the same comes of them, or the case says why not.

Compared are the answers and how the client's connection ends, and what the engine got. What nginx makes of a case is
written down nowhere but in nginx; so when the case gives a reason, some difference must be seen.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.corpus.cases import RequestCase, ResponseCase, Seen
from tests.corpus.requests import REQUESTS
from tests.corpus.responses import RESPONSES
from tests.helpers.fronts import Front, nginx, ours
from tests.helpers.nginx import nginx_version
from tests.helpers.replay import Outcome, play_request, play_response
from tests.helpers.wire import shown

#: Where the reasons come from (Debian 12). Other versions may have come closer to us since.
REASONS_OF = (1, 22)


@dataclass(frozen=True)
class Result:
    """What a proxy made of a case, as far as two proxies can be compared: of errors, which each words for itself, the
    status alone."""

    answers: tuple[tuple[object, ...], ...]
    end: str
    seen: tuple[Seen, ...] = ()
    doubtful: bool = False
    """Has the engine got something that is no message beyond doubt?"""

    def __str__(self) -> str:
        seen = f", the engine got {shown(repr(self.seen))}" if self.seen else ""
        return f"{shown(repr(self.answers))} {self.end}{seen}{', and something doubtful' if self.doubtful else ''}"


#: How long a connection may neither end nor answer, when a difference hangs on it: a machine may be slow.
PATIENT_S = 5.0

#: What becomes of an answer that turns out to be bad after its head: an error, a part of it, or nothing at all.
BROKEN = Result((), "broken")


@pytest.mark.parametrize("subject", REQUESTS)
async def test_requests(subject: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "vastproxy")
    async with ours() as we, nginx(tmp_path) as they:
        wrong = [
            complaint for case in REQUESTS[subject] if (complaint := await request_complaint(case, we, they))
        ]
    assert not wrong, "\n".join(["", *wrong])


@pytest.mark.parametrize("subject", RESPONSES)
async def test_answers(subject: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "vastproxy")
    async with ours() as we, nginx(tmp_path) as they:
        wrong = [
            complaint
            for case in RESPONSES[subject]
            if (complaint := await response_complaint(case, we, they))
        ]
    assert not wrong, "\n".join(["", *wrong])


async def request_complaint(case: RequestCase, we: Front, they: Front) -> str | None:
    mine, theirs = await of_request(case, we), await of_request(case, they)
    if theirs.end == "hangs" and compared(case, mine, theirs):
        theirs = await of_request(case, replace(they, patience_s=PATIENT_S))
    return compared(case, mine, theirs)


async def response_complaint(case: ResponseCase, we: Front, they: Front) -> str | None:
    mine, theirs = await of_response(case, we), await of_response(case, they)
    if theirs.end == "hangs" and compared(case, mine, theirs):
        theirs = await of_response(case, replace(they, patience_s=PATIENT_S))
    return compared(case, mine, theirs)


def compared(case: RequestCase | ResponseCase, we: Result, they: Result) -> str | None:
    if we != they and not case.nginx:
        return f"{case.name}: no reason is given for\n    ours  {we}\n    nginx {they}"
    if we == they and case.nginx and nginx_version() == REASONS_OF:
        return f"{case.name}: nginx does the same, so no reason is needed: {we}"
    return None


async def of_request(case: RequestCase, front: Front) -> Result:
    played = await play_request(case, front, [len(case.raw)])
    outcome = played.outcomes[0][1]
    return Result(
        answers_of(outcome), end_of(outcome), tuple(played.seen.elements()), bool(played.violations)
    )


async def of_response(case: ResponseCase, front: Front) -> Result:
    played = await play_response(case, front, [len(case.raw)])
    outcome = played.outcomes[0][1]
    if case.partly and not any(answer.complete and answer.status < 400 for answer in outcome.answers):
        return BROKEN
    return Result(answers_of(outcome), end_of(outcome), doubtful=bool(played.violations))


def end_of(outcome: Outcome) -> str:
    """nginx closes on a client that still sends; whether the client sees that as a reset is a matter of time."""
    return "closed" if outcome.end == "reset" else outcome.end


def answers_of(outcome: Outcome) -> tuple[tuple[object, ...], ...]:
    answers: list[tuple[object, ...]] = []
    for answer in outcome.answers:
        if answer.status >= 400:
            answers.append((answer.status,))
        else:
            answers.append((*answer.interim, answer.status, answer.body, answer.complete))
    return tuple(answers) + (((outcome.rest,),) if outcome.rest else ())
