"""Figures as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import LETTERS, SIGNS


@pytest.mark.parametrize(
    ("seconds", "short", "long"),
    [
        (None, "–", "–"),
        (-5, "0s", "0 s"),
        (45.9, "45s", "45 s"),
        (190, "3m", "3 min 10 s"),
        (7_260, "2h", "2 h 1 min"),
        (7_205, "2h", "2 h"),
        (518_400, "6d", "6 d"),
    ],
)
def test_lengths_of_time(seconds: float | None, short: str, long: str) -> None:
    assert words.span(seconds, SIGNS) == short
    assert words.long_span(seconds, SIGNS) == long


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((None, "–"), (0, "0"), (0.04, "0"), (0.31, "0.3"), (12.44, "12.4"), (99.96, "100"), (340.4, "340")),
        *((9_999, "9,999"), (12_400, "12.4k"), (1_240_000, "1.2M")),
    ],
)
def test_rates(value: float | None, shown: str) -> None:
    assert words.rate(value, SIGNS) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "$0.00"), (0.0432, "$0.043"), (1.92, "$1.92"), (1204.4, "$1,204"), (-3.5, "-$3.50")],
)
def test_money(value: float | None, shown: str) -> None:
    assert words.dollars(value, SIGNS) == shown


def test_units() -> None:
    assert words.memory(18_637, 24_564, SIGNS) == "18.2/24G"
    assert words.memory(None, 24_564, SIGNS) == "–/24G"
    assert words.memory(2_048, None, SIGNS) == "2.0"
    assert words.memory(137_000, 163_118, SIGNS) == "134/159G"
    assert words.memory(None, None, LETTERS) == "-"
    assert (words.watts(312.4, SIGNS), words.watts(None, SIGNS)) == ("312W", "–")
    assert (words.heat(61.2, SIGNS), words.heat(61.2, LETTERS)) == ("61°C", "61C")
    assert (words.ms(84.4, SIGNS), words.ms(3_100, SIGNS), words.ms(None, SIGNS)) == ("84ms", "3.1s", "–")
    assert (words.whole(1_200_000, SIGNS), words.whole(12_400, SIGNS)) == ("1.2M", "12,400")
    assert words.clock(None, SIGNS) == words.clock(1e15, SIGNS) == "–"


@given(value=st.none() | st.floats(allow_nan=False), width=st.integers(0, 40))
def test_a_bar_takes_its_cells(value: float | None, width: int) -> None:
    """Whatever a proxy tells."""
    for look in (SIGNS, LETTERS):
        assert words.bar(value, width, look).cell_len == width


def test_a_bar_is_as_full_as_it_says() -> None:
    assert words.bar(50, 4, LETTERS).plain == "##.."
    assert words.bar(62, 4, LETTERS).plain == "##=."
    assert words.bar(250, 4, LETTERS).plain == "####"


@given(value=st.text(max_size=30), width=st.integers(0, 30), right=st.booleans())
def test_what_is_padded_has_its_width(value: str, width: int, right: bool) -> None:
    """Also with signs of two cells, which cannot be cut in half."""
    plain = "".join(c for c in value if c.isprintable() and cell_len(c))
    assert words.padded(Text(plain), width, SIGNS, right=right).cell_len == width


def test_a_text_is_cut_at_its_end() -> None:
    assert words.cut("healthy", 7, SIGNS) == "healthy"
    assert words.cut("healthy", 4, SIGNS) == "hea…"
    assert words.cut("healthy", 0, SIGNS) == ""
    assert words.fitted(Text("a long name"), 7, SIGNS).plain == "a long…"


def test_of_two_sides_the_right_one_gives_way() -> None:
    left, right = Text("left"), Text("right side")
    assert words.two_sided(left, right, 20, SIGNS).plain == "left      right side"
    assert words.two_sided(left, right, 12, SIGNS).plain == "left  right…"
    assert words.two_sided(left, right, 7, SIGNS).plain == "left   "
