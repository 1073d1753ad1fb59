"""Seconds of an hour as the bits of a number, so that what several proxies saw can be laid over each other, and
nothing counts twice however often it is told. Pure."""

from collections.abc import Iterator
from typing import Final

HOUR_S: Final = 3600
_BYTES: Final = HOUR_S // 8


def hour_of(unix: float) -> int:
    """The beginning of the hour, as unix time."""
    return int(unix) // HOUR_S * HOUR_S


def marked(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The seconds from `first` until before `end`, by hour: its beginning, and its seconds as bits."""
    while first < end:
        hour = hour_of(first)
        until = min(end, hour + HOUR_S)
        yield hour, ((1 << (until - first)) - 1) << (first - hour)
        first = until


def packed(mask: int) -> bytes:
    """To be stored."""
    return mask.to_bytes(_BYTES, "little")


def unpacked(stored: bytes | None) -> int:
    """What `packed` made; nothing is no second. What is not ours counts as far as it has bits of an hour."""
    return 0 if stored is None else int.from_bytes(stored[:_BYTES], "little")
