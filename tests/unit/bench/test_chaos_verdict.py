"""What counts as a correct answer, as a correct error and as neither; and what engines may have at a time."""

import asyncio
import json
from dataclasses import replace

import pytest

from bench.chaos_answers import (
    ALIAS,
    MARK,
    MODELS,
    make_body,
    plain_answer,
    refusal,
    stream_events,
    wire_model,
)
from bench.chaos_events import Incident
from bench.chaos_reading import Asked, Incorrect, read_answer
from bench.chaos_verdict import (
    Outcome,
    Span,
    as_json,
    drained_but_served,
    faults_of,
    not_at_rest,
    over_cap,
    read_spans,
    table,
    wanted,
)
from bench.soak_watch import Sample

BODY = make_body("n1", MODELS[0], "hello", tokens=4)
STREAM = b"".join(stream_events(BODY, MODELS[0]))
PLAIN = plain_answer(BODY, MODELS[0])
ERROR = b'{"error": {"message": "m", "type": "server_error", "code": "backend_timeout", "param": null}}'
EVENT = b"event: error\ndata: " + ERROR + b"\n\n"
SSE = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-vastproxy-instance: 7\r\n"


async def judged(raw: bytes, *, streamed: bool = False) -> Asked:
    """What is made of these bytes, and then the end of the connection."""
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    asked = Asked("stream", "n1", MODELS[0], 0.0, streamed=streamed)
    await read_answer(asked, reader, STREAM if streamed else PLAIN, 1.0)
    return asked


def plain(body: bytes, *, status: int = 200, more: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n{more}\r\n".encode() + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return SSE.encode() + b"\r\n" + chunks + (b"0\r\n\r\n" if end else b"")


def test_answers_differ_by_nonce_model_and_prompt() -> None:
    others = [
        plain_answer({**BODY, "nonce": "n2"}, MODELS[0]),
        plain_answer(BODY, MODELS[1]),
        plain_answer(make_body("n1", MODELS[0], "hullo"), MODELS[0]),
    ]
    assert len({PLAIN, *others}) == 4
    assert stream_events(BODY, MODELS[0])[0] != stream_events({**BODY, "nonce": "n2"}, MODELS[0])[0]
    assert wire_model(ALIAS) == MODELS[1]


async def test_the_right_answer_is_correct_whole_or_in_chunks() -> None:
    assert (await judged(plain(PLAIN))).verdict == "correct"
    found = await judged(chunked(STREAM[:50], STREAM[50:]), streamed=True)
    assert (found.verdict, found.instance) == ("correct", 7)


@pytest.mark.parametrize(
    ("status", "more", "body"),
    [
        (504, "", ERROR),
        (502, "", ERROR),
        (503, "retry-after: 5\r\n", ERROR),
        (429, "retry-after: 5\r\n", ERROR),
        (500, f"{MARK}: n1\r\n", refusal("n1")),
    ],
)
async def test_errors_in_the_right_shape_are_correct(status: int, more: str, body: bytes) -> None:
    assert (await judged(plain(body, status=status, more=more))).verdict == "error"


@pytest.mark.parametrize(
    "raw",
    [
        plain(ERROR, status=500),
        plain(ERROR, status=404),
        plain(ERROR, status=503),
        plain(ERROR, status=429),
        plain(b"oops", status=502),
        plain(ERROR, status=502, length=500),
        plain(refusal("n2"), status=500, more=f"{MARK}: n2\r\n"),
        plain(plain_answer({**BODY, "nonce": "n2"}, MODELS[0])),
        plain(PLAIN[:-1]),
        plain(PLAIN[:20] + b"?", length=500),
    ],
)
async def test_other_plain_answers_are_incorrect(raw: bytes) -> None:
    with pytest.raises(Incorrect):
        await judged(raw)


async def test_a_plain_answer_that_breaks_off_within_its_length_is_a_correct_error() -> None:
    assert (await judged(plain(PLAIN[:20], length=len(PLAIN)))).verdict == "error"


@pytest.mark.parametrize("before", [STREAM[:300], STREAM[:100] + b"\n\n", b""])
async def test_a_stream_that_ends_with_an_error_event_and_breaks_off_is_a_correct_error(
    before: bytes,
) -> None:
    pieces = (before, EVENT) if before else (EVENT,)
    assert (await judged(chunked(*pieces, end=False), streamed=True)).what.startswith(
        "error event backend_timeout"
    )


@pytest.mark.parametrize(
    "raw",
    [
        chunked(STREAM[:300], end=False),
        chunked(STREAM[:300]),
        chunked(STREAM[:300], EVENT),
        chunked(STREAM.replace(b'"n1"', b'"n2"')),
        chunked(STREAM[:100], STREAM[120:300], EVENT, end=False),
        chunked(STREAM[:300], b"event: error\ndata: nothing\n\n", end=False),
    ],
    ids=["silent break", "clean end", "error, clean end", "another's", "a gap", "no error in it"],
)
async def test_other_streams_are_incorrect(raw: bytes) -> None:
    with pytest.raises(Incorrect):
        await judged(raw, streamed=True)


async def test_no_answer_at_all_is_an_error_of_the_reader() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await judged(b"")


def test_a_journal_tells_when_requests_were_there_and_a_killed_engine_leaves_them_open() -> None:
    lines = [
        ("a", "begin", 1.0),
        ("b", "begin", 2.0),
        ("a", "end", 3.0),
        ("a", "begin", 4.0),
        ("a", "end", 5.0),
    ]
    spans = read_spans(9, [{"nonce": n, "what": what, "at": at} for n, what, at in lines])
    inf = float("inf")
    assert spans == [Span(9, "a", 1.0, 3.0), Span(9, "b", 2.0, inf), Span(9, "a", 4.0, 5.0)]


def test_what_nobody_wants_any_more_is_not_held_against_an_engine() -> None:
    inf = float("inf")
    spans = [Span(1, "a", 0.0, inf), Span(2, "a", 5.0, inf), Span(1, "late", 9.0, 10.0)]
    assert wanted(spans, {"a": 7.0, "late": 8.0}) == [Span(1, "a", 0.0, 5.0), Span(2, "a", 5.0, 7.0)]


def test_more_than_the_cap_is_found_unless_it_is_for_a_moment() -> None:
    full = [Span(1, str(n), 0.0, 10.0) for n in range(2)]
    assert over_cap(full, 2) == (2, [])
    assert over_cap([*full, Span(1, "moment", 1.0, 1.1)], 2) == (3, [])
    assert over_cap([*full, Span(2, "elsewhere", 1.0, 9.0)], 2)[1] == []
    assert len(over_cap([*full, Span(1, "long", 1.0, 9.0)], 2)[1]) == 1
    one_after_the_other = [Span(1, f"turn {n}", 1.0 + n / 10, 1.099 + n / 10) for n in range(8)]
    assert len(over_cap([*full, *one_after_the_other], 2)[1]) == 1


ASKED = Asked("plain", "n1", MODELS[0], 11.0, 12.0, 11.5, False, 200, 7, "r1", "correct")
DRAINED = Incident("drained", 7, 10.0, 15.0, served=16.0, quiet_from=10.1, quiet_until=15.0)


def test_who_serves_while_it_is_drained_is_found() -> None:
    assert len(drained_but_served([DRAINED], [ASKED])) == 1
    assert not drained_but_served([DRAINED], [replace(ASKED, instance=8)])
    assert not drained_but_served([DRAINED], [replace(ASKED, began=10.0)])
    assert not drained_but_served([DRAINED], [replace(ASKED, ended=15.5)])


def test_what_is_left_at_rest_is_found() -> None:
    before = Sample(0.0, 80.0, 20, 5, 8)
    assert not not_at_rest(before, replace(before, fds=22, rss_mb=90.0))
    assert not_at_rest(before, replace(before, fds=30)) == ["fds at rest: 20 before, 30 after"]


def test_faults_are_all_that_should_not_be() -> None:
    good = Outcome(
        asked=[ASKED, replace(ASKED, verdict="left"), replace(ASKED, verdict="error", what="504 x")]
    )
    assert faults_of(good, 2) == []
    assert len(faults_of(replace(good, calm_from=10.0), 2)) == 1
    bad = Outcome(
        asked=[replace(ASKED, verdict="incorrect", what="another's answer")],
        incidents=[replace(DRAINED, quiet_from=None, served=None)],
        problems=["log: Traceback"],
    )
    assert len(faults_of(bad, 2)) == 3


def test_the_table_has_every_count_and_every_fault() -> None:
    line = {
        "attempts": 2,
        "queue_s": 0.5,
        "tried": [{"instance_id": 7, "outcome": "failed", "error": "reset"}],
    }
    outcome = Outcome(
        asked=[ASKED, replace(ASKED, verdict="error", what="504 backend_timeout")],
        incidents=[replace(DRAINED, instance=8)],
        access=[line],
        problems=["log: bad"],
    )
    found = as_json(outcome, 2)
    assert json.loads(json.dumps(found)) == found
    text = table(found)
    for word in (
        "correct 1",
        "504 backend_timeout",
        "failed: reset",
        "drained",
        "NOT RIGHT: log: bad",
        "incorrect: 1",
    ):
        assert word in text
