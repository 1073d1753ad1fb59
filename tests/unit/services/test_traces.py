"""The last requests are remembered, found and told; nothing grows and nothing secret is in them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.traces import MAX_ATTEMPTS, MAX_CANDIDATES, MAX_CHARS, Trace, Traces

A, B = 101 * 65_536 + 8000, 102 * 65_536 + 18000


def begun(traces: Traces, request_id: bytes = b"r1", at: float = 10.0) -> Trace:
    return traces.begin(request_id, b"POST", b"/v1/chat/completions?key=secret", at, 1_700_000_000.25)


def test_a_request_that_was_answered_at_the_second_attempt() -> None:
    traces = Traces()
    trace = begun(traces)
    trace.asked("m", True)
    trace.key_name, trace.priority, trace.pin, trace.queued_s = "2", "batch", "session", 0.5
    first = trace.attempt(A, 10.5, "fewest requests for its speed", [(A, 1.5), (B, 2.0)])
    first.end("failed", 10.6, "connection refused")
    second = trace.attempt(B, 10.6, "the only one left", [(B, 2.0)])
    second.path, second.reused, second.connected_at, second.first_byte_at = "direct", True, 10.61, 11.0
    trace.first_byte_at = 11.0
    second.end("answered", 12.0)
    trace.end(200, 12.0, received_bytes=70, sent_bytes=900)
    told = trace.to_json(now=99.0)
    assert json.loads(json.dumps(told)) == told
    attempts = told.pop("attempts")
    assert told == {
        "id": "r1",
        "state": "done",
        "began_unix": 1_700_000_000.25,
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "stream": True,
        "key": "2",
        "priority": "batch",
        "pin": "session",
        "status": 200,
        "queue_ms": 500.0,
        "first_byte_ms": 1000.0,
        "total_ms": 2000.0,
        "received_bytes": 70,
        "sent_bytes": 900,
        "attempts_left_out": 0,
    }
    assert attempts == [
        {
            "instance": 101,
            "port": 8000,
            "path": None,
            "reused": False,
            "reason": "fewest requests for its speed",
            "candidates": [
                {"instance": 101, "port": 8000, "score": 1.5},
                {"instance": 102, "port": 18000, "score": 2.0},
            ],
            "candidates_total": 2,
            "started_ms": 500.0,
            "connected_ms": None,
            "first_byte_ms": None,
            "ended_ms": 600.0,
            "outcome": "failed",
            "error": "connection refused",
        },
        {
            "instance": 102,
            "port": 18000,
            "path": "direct",
            "reused": True,
            "reason": "the only one left",
            "candidates": [{"instance": 102, "port": 18000, "score": 2.0}],
            "candidates_total": 1,
            "started_ms": 600.0,
            "connected_ms": 610.0,
            "first_byte_ms": 1000.0,
            "ended_ms": 2000.0,
            "outcome": "answered",
            "error": None,
        },
    ]


def test_a_request_that_still_runs_says_so() -> None:
    traces = Traces()
    trace = begun(traces)
    trace.attempt(A, 10.0)
    told = trace.to_json(now=13.0)
    assert (told["state"], told["status"], told["total_ms"], told["first_byte_ms"]) == (
        "running",
        None,
        3000.0,
        None,
    )
    assert (told["model"], told["stream"], told["key"], told["pin"]) == (None, None, None, None)
    assert (told["attempts"][0]["outcome"], told["attempts"][0]["ended_ms"]) == (None, None)


def test_one_of_them_is_as_large_as_it_gets() -> None:
    trace = Traces().begin(b"r", b"POST", b"/" + b"p" * 60_000, 0.0, 0.0)
    trace.asked("m" * 4000, None)
    for at in range(100):
        attempt = trace.attempt(A + at, float(at), "why" * 1000, [(A, float(at))] * 1000)
        attempt.end("failed", at + 0.5, "e" * 100_000)
    told = trace.to_json(200.0)
    assert len(told["attempts"]) == MAX_ATTEMPTS
    assert told["attempts_left_out"] == 100 - MAX_ATTEMPTS
    assert told["attempts"][0]["port"] == 8000, "the first ones stay"
    assert told["attempts"][-1]["port"] == 8099, "and the last"
    assert all(len(each["candidates"]) == MAX_CANDIDATES for each in told["attempts"])
    assert all(each["candidates_total"] == 1000 for each in told["attempts"])
    assert len(told["path"]) == len(told["model"]) == len(told["attempts"][0]["error"]) == MAX_CHARS
    assert len(json.dumps(told)) < 60_000


@given(st.integers(0, 5), st.lists(st.integers(0, 7), max_size=30))
def test_the_last_ones_are_found_and_no_others(kept: int, ids: list[int]) -> None:
    """Also where clients choose an id again: the last request with it is meant."""
    traces = Traces(kept)
    made = [begun(traces, b"%d" % each, float(at)) for at, each in enumerate(ids)]
    remembered = made[max(len(made) - kept, 0) :] if kept else []
    assert len(traces) == len(remembered)
    assert traces.latest(99) == remembered[::-1]
    assert traces.latest(2) == remembered[::-1][:2]
    for each in range(8):
        last = [trace for trace in remembered if trace.request_id == b"%d" % each][-1:]
        assert traces.find(b"%d" % each) is (last[0] if last else None)


def test_nothing_of_the_query_is_kept() -> None:
    traces = Traces()
    assert b"secret" not in begun(traces).path
    assert "secret" not in json.dumps(begun(traces).to_json(11.0))
