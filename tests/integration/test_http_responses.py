"""The corpus of answers: whatever bytes an engine sends in whatever pieces, the client gets a valid answer or an error.

Each case is sent whole and cut behind every byte (on asyncio's own loop every third). Each time the client must get
the same thing, an answer that was cut short must be visibly so, and a connection to the engine on which anything was
odd must carry no further request.
"""

import logging
from collections import Counter

import pytest

from tests.corpus.cases import ResponseCase
from tests.corpus.responses import RESPONSES
from tests.helpers.fronts import Front, ours
from tests.helpers.replay import Outcome, cuts_on_this_loop, play_response
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Answer


@BOTH_LOOPS
@pytest.mark.parametrize("subject", RESPONSES)
async def test_answers_whole_and_cut_behind_every_byte(
    subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "vastproxy")
    async with ours() as front:
        wrong = [line for case in RESPONSES[subject] for line in await complaints(case, front)]
    assert not wrong, "\n".join(["", *wrong])


async def complaints(case: ResponseCase, front: Front) -> list[str]:
    """What is wrong with what came of the case; for each kind of wrong outcome the first cut that shows it."""
    played = await play_response(case, front, cuts_on_this_loop(case.raw))
    found: dict[str, int] = {}
    for (cut, outcome), reused in zip(played.outcomes, played.reused, strict=True):
        text = wrong_with(case, outcome)
        if text is None and not case.close and reused is not case.reused:
            text = f"the engine's connection was {'kept' if reused else 'closed'}"
        if text is not None:
            found.setdefault(text, cut)
    lines = [f"cut at {cut} of {len(case.raw)}: {text}" for text, cut in found.items()]
    lines += [f"the engine got {text}" for text in played.violations]
    return [f"{case.name}: {line}" for line in lines]


def wrong_with(case: ResponseCase, outcome: Outcome) -> str | None:
    if len(outcome.answers) != 1 or outcome.rest:
        return f"{outcome}, expected one answer, {case.status}"
    answer = outcome.answers[0]
    if case.partly:
        return (
            None
            if is_error(answer) or is_part(case, answer, outcome)
            else f"{outcome}, expected a broken one"
        )
    # To a client that knows no chunks a body ends with the connection, if that ends properly.
    end = "kept" if case.kept else "reset" if case.version == "1.0" and not case.complete else "closed"
    expected = (case.status, case.complete, end, case.interim)
    if (answer.status, answer.complete, outcome.end, answer.interim) != expected:
        return f"{outcome}, expected {expected} (status, complete, end, interim)"
    if case.status == 502:
        return None if is_error(answer) else f"{outcome}, expected an error of ours"
    if answer.body != case.body:
        return f"{outcome}, expected {case.body!r}"
    return wrong_headers(case, answer)


def is_error(answer: Answer) -> bool:
    return answer.status == 502 and answer.complete and b'"code": "backend_' in answer.body


def is_part(case: ResponseCase, answer: Answer, outcome: Outcome) -> bool:
    broken = (answer.status, answer.complete, outcome.end) == (case.status, False, "closed")
    return broken and case.body.startswith(answer.body)


def wrong_headers(case: ResponseCase, answer: Answer) -> str | None:
    names = {name for name, _ in case.headers}
    got = tuple(pair for pair in answer.headers if pair[0] in names)
    if got != case.headers:
        return f"headers {got}, expected {case.headers}"
    unwanted = [name for name, _ in answer.headers if name in case.absent]
    return f"headers {unwanted}, which are for this connection only" if unwanted else None


def test_every_case_has_a_name_and_a_source() -> None:
    for subject, cases in RESPONSES.items():
        assert not [name for name, count in Counter(case.name for case in cases).items() if count > 1], (
            subject
        )
        assert all(case.source for case in cases)
        assert all(case.raw for case in cases)
