"""The last requests are remembered, found and told; nothing grows and nothing secret is in them."""

import json
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.stories import NOW, at_b, begun, lease
from vastproxy.services.dispatch.claim import MAX_ATTEMPTS, MAX_CHARS, NEVER, Claim
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.services.traces import KEPT_STRANGERS, MAX_CANDIDATES, Traces


class Story(Claim):
    """One that can be watched being forgotten."""

    __slots__ = ("__weakref__",)


def traces(kept: int = 1_000, now: float = NOW) -> Traces:
    return Traces(kept, clock=lambda: now, wall_clock=lambda: 1_700_000_000.25 + now)


def test_a_request_that_was_answered_at_the_second_attempt() -> None:
    claim = begun()
    claim.model, claim.stream, claim.hint = "m", True, Hint(session=7)
    claim.asker, claim.priority, claim.queued_s = "batch key", Priority.BATCH, 0.5
    first = lease(101, 10.5, "least loaded", ((101, 1.5), (102, 2.0)))
    first.end("failed", 10.6, "connection refused")
    second = at_b(10.6, "the only one with a place")
    second.path, second.reused, second.connected_at, second.first_byte_at = "direct", True, 10.61, 11.0
    second.end("answered", 12.0)
    claim.leases = [first, second]
    claim.lease = second
    claim.first_byte_at, claim.ended_at, claim.status = 11.0, 12.0, 200
    claim.received_bytes, claim.sent_bytes = 70, 900
    told = traces(now=99.0).tell(claim)
    assert json.loads(json.dumps(told)) == told
    attempts = told.pop("attempts")
    assert told == {
        "id": "r1",
        "state": "done",
        "began_unix": 1_700_000_010.25,
        "method": "POST",
        "path": "/v1/chat/completions",
        "model": "m",
        "stream": True,
        "key": "batch key",
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
            "reason": "least loaded",
            "candidates": [
                {"instance": 101, "port": 8000, "score": 1.5},
                {"instance": 102, "port": 8000, "score": 2.0},
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
            "port": 8000,
            "path": "direct",
            "reused": True,
            "reason": "the only one with a place",
            "candidates": [],
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
    claim = begun()
    assert traces(now=13.0).tell(claim)["state"] == "waiting"
    claim.lease = lease(101, 10.0)
    claim.leases = [claim.lease]
    told = traces(now=13.0).tell(claim)
    assert (told["state"], told["status"], told["total_ms"], told["first_byte_ms"]) == (
        "running",
        None,
        3000.0,
        None,
    )
    assert (told["model"], told["stream"], told["key"], told["pin"]) == (None, None, None, None)
    assert (told["attempts"][0]["outcome"], told["attempts"][0]["ended_ms"]) == (None, None)


def test_one_of_them_is_as_large_as_it_gets() -> None:
    claim = Claim(0.0, b"r", b"POST", b"/" + b"p" * 60_000)
    claim.model = "m" * 4000
    for at in range(100):
        each = lease(101 + at, float(at), "why", tuple((101, float(at)) for _ in range(1000)))
        each.end("failed", at + 0.5, "e" * 100_000)
        claim.leases.append(each)
        if len(claim.leases) > MAX_ATTEMPTS:
            claim.leave_out()
    told = traces(now=200.0).tell(claim)
    assert len(told["attempts"]) == MAX_ATTEMPTS
    assert told["attempts_left_out"] == 100 - MAX_ATTEMPTS
    assert claim.attempts == 100
    assert told["attempts"][0]["instance"] == 101, "the first ones stay"
    assert told["attempts"][-1]["instance"] == 200, "and the last"
    assert all(len(each["candidates"]) == MAX_CANDIDATES for each in told["attempts"])
    assert all(each["candidates_total"] == 1000 for each in told["attempts"])
    assert len(told["path"]) == len(told["model"]) == len(told["attempts"][0]["error"]) == MAX_CHARS
    assert len(json.dumps(told)) < 60_000


@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30))
def test_the_last_ones_are_found_those_under_way_and_no_others(
    kept: int, came: list[tuple[int, bool]]
) -> None:
    """Also where clients choose an id again: the last request with it is meant, if it is remembered."""
    remembered_of = traces(kept)
    made = []
    for at, (each, ends) in enumerate(came):
        claim = begun(b"%d" % each, float(at))
        remembered_of.keep(claim)
        if ends:
            claim.ended_at = at + 0.5
        made.append(claim)
    remembered = made[max(len(made) - kept, 0) :] if kept else []
    under_way = [claim for claim in made if claim.ended_at == NEVER]
    assert len(remembered_of) == len(remembered)
    assert remembered_of.latest(99) == remembered[::-1]
    assert remembered_of.latest(2) == remembered[::-1][:2]
    assert remembered_of.under_way() == under_way
    for each in range(8):
        alike = [claim for claim in remembered if claim.request_id == b"%d" % each]
        older = [claim for claim in under_way if claim.request_id == b"%d" % each]
        last = [*older, *alike][-1:] if not alike else alike[-1:]
        assert remembered_of.find(b"%d" % each) is (last[0] if last else None)


@pytest.mark.parametrize("kept", [0, 3])
def test_long_ones_are_found_and_what_has_ended_is_let_go_of(kept: int) -> None:
    """However many requests come and go, no more are held than are under way, twice, and some."""
    remembered_of = traces(kept)
    long_ones = [begun(b"long %d" % at, float(at)) for at in range(10)]
    for claim in long_ones:
        remembered_of.keep(claim)
    last: list[weakref.ref[Claim]] = []
    for at in range(5_000):
        claim = Story(float(at), b"%d" % at, b"GET", b"/")
        remembered_of.keep(claim)
        claim.ended_at = at + 0.5
        last.append(weakref.ref(claim))
    del claim
    held = sum(each() is not None for each in last)
    assert held <= kept + 2 * len(long_ones) + 64
    assert remembered_of.under_way() == long_ones
    assert remembered_of.find(b"long 0") is long_ones[0]
    long_ones[0].ended_at = 9_999.0
    assert remembered_of.find(b"long 0") is None
    assert remembered_of.under_way() == long_ones[1:]


def stranger(request_id: bytes, at: float) -> Claim:
    claim = begun(request_id, at)
    claim.ended_at, claim.status = at, 401
    return claim


def test_strangers_push_nobody_out() -> None:
    """However often those ask who are not let in, only the last of them are remembered, and everybody else."""
    remembered_of = traces(3)
    known = [begun(b"known %d" % at, float(at)) for at in range(3)]
    for claim in known:
        remembered_of.keep(claim)
        claim.ended_at = claim.began_at
    refused = [stranger(b"stranger %d" % at, 10.0 + at) for at in range(1_000)]
    for claim in refused:
        remembered_of.keep(claim, is_stranger=True)
    assert len(remembered_of) == 6
    assert remembered_of.latest(99) == [*refused[:-4:-1], *known[::-1]]
    assert remembered_of.find(b"known 0") is known[0]
    assert remembered_of.find(b"stranger 999") is refused[-1]
    assert remembered_of.find(b"stranger 0") is None
    assert remembered_of.after(None, 99) == known[::-1]
    assert remembered_of.under_way() == []


def test_of_a_million_remembered_few_are_strangers() -> None:
    remembered_of = traces(1_000_000)
    for at in range(2 * KEPT_STRANGERS):
        remembered_of.keep(stranger(b"%d" % at, float(at)), is_stranger=True)
    assert len(remembered_of) == KEPT_STRANGERS


def test_a_stranger_who_knows_an_id_hides_nothing() -> None:
    """Neither with his request nor when it is forgotten."""
    remembered_of = traces(2)
    claim = begun(b"mine", 1.0)
    remembered_of.keep(claim)
    for at in range(5):
        remembered_of.keep(stranger(b"mine", 2.0 + at), is_stranger=True)
        assert remembered_of.find(b"mine") is claim
    later = begun(b"later", 8.0)
    remembered_of.keep(stranger(b"later", 7.0), is_stranger=True)
    remembered_of.keep(later)
    for at in range(5):
        remembered_of.keep(stranger(b"other", 9.0 + at), is_stranger=True)
        assert remembered_of.find(b"later") is later


def test_the_last_ones_stand_in_the_order_in_which_they_came() -> None:
    remembered_of = traces(10)
    came = [stranger(b"%d" % at, float(at)) if at % 3 else begun(b"%d" % at, float(at)) for at in range(9)]
    for claim in came:
        remembered_of.keep(claim, is_stranger=claim.status == 401)
    assert remembered_of.latest(99) == came[::-1]
    assert remembered_of.latest(4) == came[:-5:-1]


def test_where_nothing_is_remembered_strangers_are_not_either() -> None:
    remembered_of = traces(0)
    remembered_of.keep(stranger(b"r", 1.0), is_stranger=True)
    assert remembered_of.latest(9) == []
    assert remembered_of.find(b"r") is None


def test_nothing_of_the_query_is_told() -> None:
    assert "secret" not in json.dumps(traces().tell(begun()))


def test_the_first_outcome_of_an_attempt_counts() -> None:
    each = lease(101, 1.0)
    each.end("failed", 2.0, "refused")
    each.end("left", 3.0)
    assert (each.outcome, each.ended_at, each.error) == ("failed", 2.0, "refused")


def test_a_path_without_end_is_cut() -> None:
    claim = begun()
    claim.target = b"/" + b"x" * 60_000 + b"?secret"
    assert len(traces().tell(claim)["path"]) == MAX_CHARS
