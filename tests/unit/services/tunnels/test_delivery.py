"""Where a question is in what was sent, by what TCP says."""

import math
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.delivery import Delivery
from vastproxy.services.tunnels.liveness import Question


class Line:
    """A connection's TCP: what it was given, and how much of that was acknowledged."""

    def __init__(self, sent: int = 0, acked: int = 0) -> None:
        self.sent, self.acked = sent, acked
        self.is_known = True
        self.delivery = Delivery(
            cast(tcp.Socket, object()),
            acknowledged=lambda _: self.acked if self.is_known else None,
            queued=lambda _: self.sent - self.acked if self.is_known else None,
        )

    def look(self, acked: int) -> str:
        self.acked = acked
        return self.delivery.look().name


def test_it_arrives_when_all_before_it_and_itself_are_acknowledged() -> None:
    line = Line(sent=1_000, acked=400)
    line.delivery.asked(100)
    places = [line.look(acked) for acked in (400, 401, 401, 1_000, 1_099, 1_100)]
    assert places == ["STANDING", "MOVING", "STANDING", "MOVING", "MOVING", "ARRIVED"]


def test_what_was_acknowledged_before_it_was_asked_is_no_movement() -> None:
    line = Line(sent=1_000, acked=400)
    line.delivery.asked(0)
    assert line.look(1_000) == "ARRIVED"
    line.sent, line.acked = 3_000, 2_000
    line.delivery.asked(0)
    assert [line.look(2_000), line.look(2_999), line.look(3_000)] == ["STANDING", "MOVING", "ARRIVED"]


def test_the_first_that_has_not_arrived_is_followed() -> None:
    """Also after many more: its answer is the next one."""
    line = Line(sent=1_000)
    line.delivery.asked(0)
    line.sent = 5_000
    line.delivery.asked(0)
    assert [line.look(999), line.look(1_000)] == ["MOVING", "ARRIVED"]


def test_one_that_arrived_unnoticed_gives_way_to_the_next() -> None:
    line = Line(sent=1_000)
    line.delivery.asked(0)
    line.sent, line.acked = 5_000, 1_000
    line.delivery.asked(0)
    assert [line.look(1_000), line.look(4_000), line.look(5_000)] == ["STANDING", "MOVING", "ARRIVED"]


def test_one_that_is_not_written_has_not_arrived() -> None:
    """Whatever is acknowledged; from when it is written its place is known."""
    line = Line(sent=1_000)
    assert not line.delivery.is_unwritten
    line.delivery.asked(math.inf)
    assert line.delivery.is_unwritten
    assert [line.look(1_000), line.look(1_000)] == ["MOVING", "STANDING"]
    line.delivery.asked(math.inf)
    assert line.delivery.is_unwritten
    line.sent = 1_060
    line.delivery.written()
    assert not line.delivery.is_unwritten
    line.sent = 9_000
    line.delivery.written()
    assert [line.look(1_059), line.look(1_060)] == ["MOVING", "ARRIVED"]


@pytest.mark.parametrize("unwritten", [0, 100, math.inf])
def test_where_nobody_tells_it_has_arrived(unwritten: float) -> None:
    line = Line(sent=1_000)
    line.is_known = False
    line.delivery.asked(unwritten)
    assert (line.look(0), line.delivery.is_unwritten) == ("ARRIVED", False)
    gone = Delivery(None)
    gone.asked(unwritten)
    gone.written()
    assert (gone.look(), gone.is_unwritten) == (Question.ARRIVED, False)


def test_when_nobody_tells_any_more_it_has_arrived() -> None:
    """The connection has ended meanwhile."""
    line = Line(sent=1_000)
    line.delivery.asked(0)
    line.is_known = False
    assert line.look(0) == "ARRIVED"


@given(
    unwritten=st.integers(0, 10_000),
    queued=st.integers(0, 10_000),
    steps=st.lists(st.integers(0, 3_000), min_size=1, max_size=30),
)
def test_it_moves_while_less_is_acknowledged_and_then_never_again(
    unwritten: int, queued: int, steps: list[int]
) -> None:
    line = Line(sent=7 + queued, acked=7)
    line.delivery.asked(unwritten)
    acked, has_arrived = 7, False
    for step in steps:
        acked += step
        has_arrived = has_arrived or acked >= 7 + queued + unwritten
        expected = "ARRIVED" if has_arrived else "MOVING" if step else "STANDING"
        assert line.look(acked) == expected
