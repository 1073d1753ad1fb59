"""What the dashboard is built from: which cells changed, who gets which lines, what is remembered."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style

from tests.helpers.fake_proxy import event, overview, rows
from vastproxy.cli.top.board import KEPT_EVENTS, Board
from vastproxy.cli.top.changes import NEAR, cells, changed, in_letters
from vastproxy.cli.top.layout import places, scrolled
from vastproxy.cli.top.sse import Sent, events
from vastproxy.cli.top.values import clean, count, highest, identity, mean, number, part, text, texts, total

LINES = st.lists(st.sampled_from(["a", "b", " ", "🐇", "●", "word"]), max_size=12).map("".join)


@given(before=LINES, after=LINES)
def test_drawing_what_changed_makes_the_new_line(before: str, after: str) -> None:
    """And no half of a wide sign is drawn alone."""
    old, new = cells([Segment(before)]), cells([Segment(after)])
    width = max(len(old), len(new))
    old += [(" ", None)] * (width - len(old))
    new += [(" ", None)] * (width - len(new))
    shown = list(old)
    spans = list(changed([Segment("".join(c for c, _ in old))], [Segment("".join(c for c, _ in new))]))
    for start, end in spans:
        assert new[start][0] != ""
        assert end == width or new[end][0] != ""
        shown[start:end] = new[start:end]
    assert shown == new
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))


def test_changes_far_apart_are_drawn_apart() -> None:
    line = "." * 40
    assert list(changed([Segment(line)], [Segment(line)])) == []
    assert list(changed([Segment(line)], [Segment("x" + line[1:39] + "x")])) == [(0, 1), (39, 40)]
    near = "x" + "." * (NEAR - 2) + "x" + "." * (40 - NEAR)
    assert list(changed([Segment(line)], [Segment(near)])) == [(0, NEAR)]


def test_a_change_of_colour_is_one() -> None:
    plain, red = [Segment("abc")], [Segment("a"), Segment("b", Style(color="red")), Segment("c")]
    assert list(changed(plain, red)) == [(1, 2)]
    assert (
        cells([Segment("a\N{COMBINING ACUTE ACCENT}b"), Segment("", None, [])])[0][0]
        == "a\N{COMBINING ACUTE ACCENT}"
    )


@given(st.text(max_size=20))
def test_letters_take_the_same_cells(value: str) -> None:
    shown = in_letters("".join(c for c in value if c.isprintable()))
    assert shown.isascii()


def test_letters_for_known_signs() -> None:
    assert in_letters("connecting → healthy …") == "connecting > healthy ~"
    assert in_letters("日本") == "????"


@pytest.mark.parametrize("width", [20, 80, 119, 120, 200])
@pytest.mark.parametrize("height", [1, 5, 13, 14, 24, 60])
@pytest.mark.parametrize("needed", [3, 12, 500])
def test_every_line_of_the_terminal_is_somebodys(width: int, height: int, needed: int) -> None:
    at = places(width, height, header=5, needed=needed)
    assert at.backends >= 1
    assert at.backends + at.below == max(height - 6, 1)
    assert at.below == 0 or at.below >= 4
    assert at.side_by_side == (width >= 120 and height >= 14)


@given(top=st.integers(0, 300), first=st.integers(0, 299), tall=st.integers(1, 5), room=st.integers(1, 50))
def test_what_is_chosen_is_in_view(top: int, first: int, tall: int, room: int) -> None:
    total_lines = 304
    at = scrolled(top, first, first + tall, room, total_lines)
    assert 0 <= at <= total_lines - room
    assert at <= first
    assert at + room >= min(first + tall, first + room)


def test_the_stream_is_read_as_it_comes() -> None:
    lines = [
        b": still",
        b"",
        b"event: fleet",
        b'data: {"a":',
        b"data:1}",
        b"",
        b"id: 7",
        b"data: x",
        b"",
        b"event: cut",
    ]
    assert list(events(lines)) == [Sent("", ""), Sent("fleet", '{"a":\n1}'), Sent("message", "x")]


def test_what_was_told_before_is_not_told_again() -> None:
    """After each new connection the proxy begins with its last events; one that was started anew has others."""
    board = Board("http://proxy")
    for told in (event(1), event(2), event(1), event(1, at_unix=99.0), {"text": "without a number"}):
        board.happened(told)
    assert len(board.events) == 4
    for number_ in range(3 * KEPT_EVENTS):
        board.happened(event(number_ + 10))
    assert len(board.events) == KEPT_EVENTS


def test_the_link() -> None:
    board = Board("http://proxy")
    board.lost("it is gone", 5.0)
    board.lost("nothing answers", 9.0)
    assert (board.link, board.since, board.why) == ("lost", 5.0, "nothing answers")
    board.connected(12.0)
    board.connected(15.0)
    assert (board.link, board.since, board.why) == ("live", 12.0, "")


def test_backends_are_found_by_id() -> None:
    board = Board("http://proxy")
    board.overview(overview([*rows(2), {"state": "healthy"}]))
    assert [identity(row) for row in board.backends] == [48001001, 48001002]
    assert board.backend(48001002) is not None
    assert board.backend(None) is board.backend(7) is None


def test_fields_that_are_not_what_they_should_be() -> None:
    row = {"a": True, "b": float("nan"), "c": "x\x1b[2J\ny", "d": [1, "\x07"], "id": "17", "e": {"f": 2}}
    assert number(row, "a") is number(row, "b") is number(row, "z") is None
    assert text(row, "c") == "x\N{REPLACEMENT CHARACTER}[2J y"
    assert texts(row, "d") == ["1", "\N{REPLACEMENT CHARACTER}"]
    assert texts(row, "a") == []
    assert part(row, "a") == {}
    assert count(part(row, "e"), "f") == 2
    assert identity(row) is identity({"id": True}) is None
    assert clean("\N{RIGHT-TO-LEFT OVERRIDE}") == "\N{REPLACEMENT CHARACTER}"


def test_means_and_sums_of_what_is_known() -> None:
    assert (mean([1.0, None, 3.0]), total([None, 2.0]), highest([None, 1.0, 4.0])) == (2.0, 2.0, 4.0)
    assert mean([None]) is total([]) is highest([]) is None
