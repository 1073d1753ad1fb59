"""From requests that have ended it is learnt who failed, who went where he had been, and how soon answers began."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.stories import lease
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.dispatch.need import Need
from vastproxy.services.events import RequestFailed
from vastproxy.services.live.endings import (
    MAX_NEW,
    MAX_OPEN,
    MAX_TIMES,
    Endings,
    failure_of,
    learn,
    went_home,
)
from vastproxy.services.routing.policies.cheapest_first import CheapestFirst
from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
from vastproxy.services.routing.policies.sticky import Sticky
from vastproxy.services.traces import Traces


def traces(kept: int = 8) -> Traces:
    return Traces(kept, clock=lambda: 0.0, wall_clock=lambda: 0.0)


def claim(why: str = "", *, status: int = 200, error: str | None = None, over: bool = True) -> Claim:
    made = Claim(1.0, b"r1", b"POST", b"/v1/x")
    made.model = "m"
    made.status, made.error_code = status, error
    if why:
        made.leases = [lease(7, 1.0, why, ())]
        made.lease = made.leases[0]
    if over:
        made.ended_at = 3.0
    return made


def affine(cheap: bool = False) -> Need:
    rng = random.Random(1)
    return Need("m", Sticky(CheapestFirst(rng) if cheap else PrefixAffinity(rng), rng))


# ── following ──────────────────────────────────────────────────────────────────────────────────


def test_each_request_is_taken_once_when_it_has_ended() -> None:
    kept = traces()
    endings = Endings(kept)
    first, second = claim(over=False), claim()
    kept.keep(first)
    kept.keep(second)
    assert endings.take() == [second]
    assert endings.take() == []
    first.ended_at = 4.0
    assert endings.take() == [first]
    assert endings.take() == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 60))), max_size=12))
def test_none_is_missed_and_none_twice_while_all_are_remembered(
    rounds: list[tuple[int, set[int]]],
) -> None:
    kept = traces(100)
    endings = Endings(kept)
    came: list[Claim] = []
    taken: list[Claim] = []
    for count, ends in rounds:
        for _ in range(count):
            came.append(claim(over=False))
            kept.keep(came[-1])
        for number in ends:
            if number < len(came):
                came[number].ended_at = 5.0
        taken += endings.take()
    ended = {id(one) for one in came if one.ended_at == 5.0}
    assert len(taken) == len(ended)
    assert {id(one) for one in taken} == ended


def test_more_than_are_looked_at_are_a_sample() -> None:
    kept = traces(5 * MAX_NEW)
    endings = Endings(kept)
    for _ in range(3 * MAX_NEW):
        kept.keep(claim())
    assert len(endings.take()) == MAX_NEW
    for _ in range(MAX_OPEN // MAX_NEW + 2):
        for _ in range(MAX_NEW):
            kept.keep(claim(over=False))
        assert endings.take() == []
    assert len(endings.open) == MAX_OPEN


def test_where_none_is_remembered_nothing_is_learnt() -> None:
    kept = traces(0)
    kept.keep(claim())
    assert Endings(kept).take() == []


# ── what is learnt ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("why", "home"),
    [
        ("session", True),
        ("prefix", True),
        ("session moved", False),
        ("spilled", False),
        ("second home", False),
        ("least loaded", None),
        ("pinned", None),
        ("", None),
    ],
)
def test_who_went_where_he_had_been(why: str, home: bool | None) -> None:
    one = claim(why)
    for each in one.leases:
        each.need = affine()
    assert went_home(one) is home


def test_what_is_spilled_elsewhere_had_no_home() -> None:
    one = claim("spilled")
    one.leases[0].need = affine(cheap=True)
    assert went_home(one) is None


def test_failures_are_told_with_what_is_known() -> None:
    one = claim("prefix", status=502, error="backend_unreachable")
    assert one.lease is not None
    one.lease.end("failed", 2.0, "nobody listens")
    expected = RequestFailed(7, "r1", "m", 502, "backend_unreachable", "nobody listens")
    assert failure_of(one) == expected
    assert failure_of(claim(status=503, error="no_backend_available")) == RequestFailed(
        None, "r1", "m", 503, "no_backend_available", ""
    )
    passed_on = failure_of(claim("prefix", status=500))
    assert passed_on is not None
    assert (passed_on.code, passed_on.detail) == ("http_500", "the engine said so itself")


@pytest.mark.parametrize(
    ("status", "error"), [(404, "model_not_found"), (499, None), (200, None), (400, None)]
)
def test_what_is_nobodys_fault_is_no_failure(status: int, error: str | None) -> None:
    assert failure_of(claim("prefix", status=status, error=error)) is None


def test_all_of_it_together() -> None:
    good = [claim("prefix") for _ in range(MAX_TIMES + 5)]
    for number, one in enumerate(good):
        one.pieces, one.first_byte_at = 2, 1.5 + number
    at_once = claim("least loaded")
    at_once.pieces, at_once.first_byte_at = 1, 1.1
    learnt = learn([*good, at_once, claim("session moved", status=502, error="backend_unreachable")])
    assert (learnt.homes, learnt.hits) == (MAX_TIMES + 6, MAX_TIMES + 5)
    assert len(learnt.failures) == 1
    assert {id: times[:2] for id, times in learnt.times_s.items()} == {7: [0.5, 1.5]}
    assert len(learnt.times_s[7]) == MAX_TIMES
