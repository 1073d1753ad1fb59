"""Since when costs are asked for, as people and programs write it. Pure."""

import re
from typing import Final

DEFAULT_SINCE: Final = "24h"
_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?(s|m|min|h|d|w)", re.ASCII)
_UNIX: Final = re.compile(r"\d{9,11}(?:\.\d{1,9})?", re.ASCII)


def since_of(text: str, now: float) -> float | None:
    """Unix time: as it stands there, or so long before `now` (`90min`, `24h`, `7d`, `all`). None for anything else."""
    text = text.strip().lower()
    if text == "all":
        return 0.0
    if _UNIX.fullmatch(text):
        return float(text)
    found = _AGO.fullmatch(text)
    return None if found is None else max(now - float(found[1]) * _UNITS[found[2]], 0.0)
