"""Tokens count as they come: a piece stands for one until its engine tells the number, for good where it does not."""

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.stories import lease
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.live.flow import Flow


class Told(dict[int, int]):
    def __call__(self, id: int) -> int:
        return self.get(id, 0)


def stream(pieces: int, *, instance: int = 1, asked: bool | None = True) -> Claim:
    claim = Claim(0.0)
    claim.stream, claim.pieces = asked, pieces
    claim.lease = lease(instance, 0.0)
    return claim


def end(claim: Claim) -> Claim:
    claim.ended_at = 9.0
    return claim


def test_a_stream_counts_while_it_runs() -> None:
    flow = Flow(Told())
    claim = stream(10)
    flow.look([claim])
    assert (flow.of(1), flow.of(2), flow.untold) == (10, 0, 10)
    claim.pieces = 25
    flow.look([claim])
    assert flow.of(1) == 25


def test_what_is_told_at_its_end_takes_the_place_of_its_pieces() -> None:
    told = Told()
    flow = Flow(told)
    claim = stream(90)
    flow.look([claim])
    told[1] = 100
    end(claim)
    flow.look([claim])
    flow.ended([claim])
    assert (flow.of(1), flow.untold) == (100, 0)


def test_where_nothing_is_told_the_pieces_stay() -> None:
    flow = Flow(Told())
    flow.ended([end(stream(90)), end(stream(5, instance=2))])
    assert (flow.of(1), flow.of(2), flow.untold) == (90, 5, 95)


def test_of_many_some_may_tell() -> None:
    told = Told({1: 500})
    flow = Flow(told)
    flow.ended([end(stream(500)), end(stream(300))])
    assert flow.of(1) == 800
    told[1] += 40
    flow.ended([end(stream(40))])
    assert flow.of(1) == 840


def test_only_streams_that_were_asked_for_count() -> None:
    flow = Flow(Told())
    nowhere = stream(50)
    nowhere.lease = None
    flow.look([stream(50, asked=None), stream(50, asked=False), stream(1), nowhere])
    assert flow.untold == 0


def test_an_instance_that_is_gone_takes_nothing_away() -> None:
    flow = Flow(Told())
    flow.ended([end(stream(30))])
    flow.forget(1)
    flow.forget(2)
    assert (flow.of(1), flow.untold) == (0, 30)


@given(st.lists(st.tuples(st.integers(2, 50), st.booleans()), max_size=20), st.integers(1, 5))
def test_in_the_end_each_token_has_counted_once(streams: list[tuple[int, bool]], at_once: int) -> None:
    """Whoever tells, and in whatever order they end, where a piece is a token."""
    told = Told()
    flow = Flow(told)
    last = 0
    for start in range(0, len(streams), at_once):
        batch = streams[start : start + at_once]
        claims = [stream(pieces) for pieces, _ in batch]
        flow.look(claims)
        assert flow.of(1) == last + sum(pieces for pieces, _ in batch)
        told[1] = told(1) + sum(pieces for pieces, tells in batch if tells)
        for claim in claims:
            end(claim)
        flow.look(claims)
        flow.ended(claims)
        last = flow.of(1)
    assert flow.of(1) == told(1) + flow.untold == sum(pieces for pieces, _ in streams)
