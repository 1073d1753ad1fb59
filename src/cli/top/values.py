"""Fields of what a proxy tells: one of another version may lack them, or have something else there. Pure."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

Row = Mapping[str, Any]

_NOTHING: Row = {}


def text(row: Row, key: str) -> str:
    """One line without control characters; "" where there is nothing. Labels and messages come from elsewhere, and
    terminals obey them."""
    value = row.get(key)
    return "" if value is None else clean(str(value))


def clean(value: str) -> str:
    """The same for a text at hand."""
    if value.isprintable():
        return value
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in value
    )


def number(row: Row, key: str) -> float | None:
    """None where there is no number."""
    value = row.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value):
        return value
    return None


def count(row: Row, key: str) -> int:
    """A whole number; 0 where there is none."""
    return int(number(row, key) or 0)


def part(row: Row, key: str) -> Row:
    """An object within; an empty one where there is none."""
    value = row.get(key)
    return value if isinstance(value, Mapping) else _NOTHING


def rows(row: Row, key: str) -> Sequence[Row]:
    """The objects in a list."""
    value = row.get(key)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, (list, tuple)) else []


def texts(row: Row, key: str) -> list[str]:
    """The texts in a list."""
    value = row.get(key)
    return [clean(str(each)) for each in value] if isinstance(value, (list, tuple)) else []


def identity(row: Row) -> int | None:
    """The id of an instance."""
    value = row.get("id")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def total(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def highest(values: Sequence[float | None]) -> float | None:
    """Of those that are known."""
    return max((value for value in values if value is not None), default=None)


def holds(said: str, sought: str) -> bool:
    """Is each word of a filter in it?"""
    found = said.lower()
    return all(word in found for word in sought.lower().split())
