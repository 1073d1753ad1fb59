"""The corpus of requests: whatever bytes a client sends in whatever pieces, the engine gets exactly the valid ones.

Each case is sent whole and cut behind every byte (on asyncio's own loop every third). Each time the client must get
the same answers, the connection must end or go on as the case says, and the engine must have got the same messages –
none that the case does not name.
"""

import logging
from collections import Counter

import pytest

from tests.corpus.cases import RequestCase
from tests.corpus.requests import REQUESTS
from tests.helpers.fronts import Front, ours
from tests.helpers.replay import Outcome, Played, cuts_on_this_loop, play_request
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import shown


@BOTH_LOOPS
@pytest.mark.parametrize("subject", REQUESTS)
async def test_requests_whole_and_cut_behind_every_byte(
    subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "vastproxy")
    async with ours() as front:
        wrong = [line for case in REQUESTS[subject] for line in await complaints(case, front)]
    assert not wrong, "\n".join(["", *wrong])


async def complaints(case: RequestCase, front: Front) -> list[str]:
    """What is wrong with what came of the case; for each kind of wrong outcome the first cut that shows it."""
    cuts = cuts_on_this_loop(case.raw)
    played = await play_request(case, front, cuts)
    found: dict[str, int] = {}
    for cut, outcome in played.outcomes:
        if (text := wrong_with(case, outcome)) is not None:
            found.setdefault(text, cut)
    lines = [f"cut at {cut} of {len(case.raw)}: {text}" for text, cut in found.items()]
    lines += wrong_at_engine(case, played, times=len(cuts))
    return [f"{case.name}: {line}" for line in lines]


def wrong_with(case: RequestCase, outcome: Outcome) -> str | None:
    statuses = tuple(answer.status for answer in outcome.answers)
    whole = all(answer.complete for answer in outcome.answers)
    # Whether the engine invites a client that waits for it depends on how much of the body it has got by then.
    may_be_invited = b"100-continue" in case.raw
    interim = {status for answer in outcome.answers for status in answer.interim}
    echoed = tuple(answer.body for answer in outcome.answers if answer.status == 200)
    expected = tuple(
        b"" if s.method == "HEAD" else f"{s.method} {s.target} {len(s.body)}".encode("latin-1")
        for s in case.seen
    )
    end = "kept" if case.kept else "closed"
    if (statuses, outcome.end) != (case.answers, end):
        return f"{outcome}, expected {case.answers} {end}"
    if not whole or outcome.rest or interim - ({100} if may_be_invited else set()) or echoed != expected:
        return f"{outcome}, expected bodies {shown(expected)}"
    return None


def wrong_at_engine(case: RequestCase, played: Played, *, times: int) -> list[str]:
    expected = Counter({seen: count * times for seen, count in Counter(case.seen).items()})
    lines = [f"the engine got {shown(text)}" for text in dict.fromkeys(played.violations)]
    lines += [
        f"the engine got {n} times too often {shown(repr(s))}" for s, n in (played.seen - expected).items()
    ]
    lines += [
        f"the engine got {n} times too seldom {shown(repr(s))}" for s, n in (expected - played.seen).items()
    ]
    return lines


def test_every_case_has_a_name_and_a_source() -> None:
    for subject, cases in REQUESTS.items():
        assert not [name for name, count in Counter(case.name for case in cases).items() if count > 1], (
            subject
        )
        assert all(case.source for case in cases)
        assert all(case.raw for case in cases)
