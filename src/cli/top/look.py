"""What the dashboard is drawn with: signs for terminals that have them, letters for those that do not. Pure.

Colours are those of the terminal itself, by name, so that they fit its background; Textual leaves them out where
NO_COLOR is set (no-color.org). Nothing is said by colour alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STATE_STYLES: Final[Mapping[str, str]] = {
    "healthy": "green",
    "degraded": "yellow",
    "discovered": "yellow",
    "connecting": "yellow",
    "draining": "yellow",
    "unhealthy": "red",
    "removing": "red",
}
LEVEL_STYLES: Final[Mapping[str, str]] = {"warning": "yellow", "error": "red", "critical": "red"}


@dataclass(frozen=True, slots=True)
class Look:
    """Each sign takes the cells that its text takes in a terminal; the two animals take two."""

    dash: str = "–"
    times: str = "\N{MULTIPLICATION SIGN}"
    degree: str = "°C"
    dot: str = "●"
    more: str = "…"
    chosen: str = "▸"
    falling: str = "▾"
    rule: str = "─"
    between: str = "·"
    direct: str = "🐇"
    relay: str = "🐢"
    bar: tuple[str, str, str] = ("━", "╸", "─")
    """Full, half, empty."""
    thin: tuple[str, str, str, str, str, str] = ("╭", "╮", "╰", "╯", "─", "│")
    thick: tuple[str, str, str, str, str, str] = ("┏", "┓", "┗", "┛", "━", "┃")
    """Corners from the upper left, then the lines across and down."""


SIGNS: Final = Look()
#: For terminals without UTF-8 or without the fonts.
LETTERS: Final = Look(
    dash="-",
    times="x",
    degree="C",
    dot="*",
    more="~",
    chosen=">",
    falling="v",
    rule="-",
    between="-",
    direct="D",
    relay="R",
    bar=("#", "=", "."),
    thin=("+", "+", "+", "+", "-", "|"),
    thick=("#", "#", "#", "#", "=", "#"),
)


def look_for(*, ascii_only: bool, encoding: str | None) -> Look:
    """`encoding`: that of standard output. Whoever cannot show UTF-8 gets letters."""
    is_utf8 = (encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return LETTERS if ascii_only or not is_utf8 else SIGNS
