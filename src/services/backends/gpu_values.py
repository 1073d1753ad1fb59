"""One cell of what a program for reading GPUs printed: a possible value, or None. Pure; nothing here raises."""

import re
from collections.abc import Callable
from typing import Final

_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:%|MiB|MB|W|C|MHz)?", re.ASCII)
_WHOLE = re.compile(r"\d{1,15}", re.ASCII)
_PSTATE = re.compile(r"P\d{1,2}", re.ASCII)
_JUNK = re.compile(r"\[.*\]|N/A|ERR!|Unknown Error|Not Supported|", re.IGNORECASE | re.DOTALL)
_FLAGS: Final = {"enabled": True, "yes": True, "disabled": False, "no": False}
#: PCIe generations and lanes: the widest link has 32 lanes.
_MOST_LANES: Final = 32
_MAX_TEXT: Final = 100
_MAX_LINE: Final = 200


def number_within(lowest: float, highest: float) -> Callable[[str], float | None]:
    """A reader of numbers, with or without a unit, that takes none outside these bounds."""

    def read(cell: str) -> float | None:
        found = _NUMBER.fullmatch(cell)
        value = None if found is None else float(found[1])
        return value if value is not None and lowest <= value <= highest else None

    return read


def count(cell: str) -> int | None:
    """How often something happened."""
    return int(cell) if _WHOLE.fullmatch(cell) else None


def small_integer(cell: str) -> int | None:
    """A PCIe generation or the width of a link."""
    value = count(cell)
    return value if value is not None and 1 <= value <= _MOST_LANES else None


def flag(cell: str) -> bool | None:
    """Enabled, disabled, yes or no."""
    return _FLAGS.get(cell.lower())


def pstate(cell: str) -> str | None:
    """P0 (fastest) to P12 or so."""
    return cell if _PSTATE.fullmatch(cell) else None


def printable_text(cell: str) -> str | None:
    """A name of some kind, such as a model or a version."""
    return None if len(cell) > _MAX_TEXT or _JUNK.fullmatch(cell) else one_line(cell) or None


def one_line(text: str) -> str:
    """One printable line of bounded length, whatever came."""
    clean = "".join(char if char.isprintable() else " " for char in text[: 2 * _MAX_LINE])
    return " ".join(clean.split())[:_MAX_LINE]
