"""Reading values that may be missing, null or of another type than documented. Nothing here raises."""

import math
import re
from collections.abc import Mapping
from typing import Any

_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")


def as_int(value: object) -> int | None:
    """A whole number, also from a float without fraction or a string of digits. Booleans are none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if not isinstance(value, str) or not _WHOLE.fullmatch(digits := value.strip()):
        return None
    return int(digits)  # which strips less than `strip`: no U+001C to U+001F


def as_float(value: object) -> float | None:
    """A finite number, also from a string. Booleans are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """A string without surrounding space, None for an empty one; numbers become strings."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value) if not isinstance(value, int) or abs(value) < 10**30 else ""
    if not isinstance(value, str):
        return None
    return value.strip() or None


def as_bool(value: object) -> bool | None:
    """A truth value, also from 0 and 1."""
    if isinstance(value, bool):
        return value
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def as_mapping(value: object) -> Mapping[str, Any]:
    """An object; empty for everything else."""
    return value if isinstance(value, dict) else {}


def as_rows(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list; empty for everything else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def as_texts(value: object) -> tuple[str, ...]:
    """The strings (and numbers) in a list. A single string is one element."""
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if not isinstance(value, list):
        return ()
    return tuple(str(one) for one in value if isinstance(one, str) or as_text(one) is not None)


def as_port(value: object) -> int | None:
    """A TCP or UDP port number."""
    port = as_int(value)
    return port if port is not None and 1 <= port <= 65_535 else None
