"""What is printed, on a console of our own."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vastproxy.cli import render


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7_380, "2 h 3 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


@given(st.text())
def test_nothing_from_outside_reaches_the_terminal_as_a_command(text: str) -> None:
    assert render.clean(text).isprintable()


def test_colours_only_where_the_console_has_them() -> None:
    found = [("topic", "[bold]finding[/bold]")]
    plain, coloured = io.StringIO(), io.StringIO()
    render.checks(Console(file=plain), found)
    render.checks(Console(file=coloured, force_terminal=True, color_system="standard"), found)
    assert plain.getvalue() == "ok  topic: [bold]finding[/bold]\n"
    assert "\x1b[" in coloured.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert render.stdout().no_color
