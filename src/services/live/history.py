"""The last hour in steps of ten seconds: one row of small numbers for each, in one block of memory.

A row is 12 numbers of 4 bytes. An hour of one backend takes 17 KB, a thousand backends 17 MB; memory is taken as
it is filled.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

#: Seconds of one step, and how many are kept.
STEP_S: Final = 10.0
STEPS: Final = 360


class Point(NamedTuple):
    """What one step was like. The first four are counts within the step, the others as they were at its end. None is
    what is not known."""

    requests: float | None
    errors: float | None
    tokens_in: float | None
    tokens_out: float | None
    ttft_p50_ms: float | None
    in_flight: float | None
    waiting: float | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    dollars_per_hour: float | None
    healthy: float | None


#: Numbers of things; the others are rounded for showing.
_WHOLE: Final = frozenset(
    {"requests", "errors", "tokens_in", "tokens_out", "in_flight", "waiting", "healthy"}
)
_DIGITS: Final = {"dollars_per_hour": 4}
_WIDTH: Final = len(Point._fields) + 1


class History:
    """Rows by the number of their step, the last `steps` of them. Steps may be missing; they come in order."""

    __slots__ = ("_next", "_rows", "_steps")

    def __init__(self, steps: int = STEPS) -> None:
        self._steps = steps
        self._rows = array("f")
        self._next = 0
        """Where the next row goes, once all places are taken."""

    def __len__(self) -> int:
        return len(self._rows) // _WIDTH

    @property
    def size_bytes(self) -> int:
        """What the rows take."""
        return self._rows.buffer_info()[1] * self._rows.itemsize

    def add(self, step: int, point: Sequence[float | None]) -> None:
        """The row of a step later than all before. Exact up to 2²⁴, as 4 bytes are."""
        row = array("f", [step, *(math.nan if value is None else value for value in point)])
        if len(self) < self._steps:
            self._rows += row
            return
        at = self._next * _WIDTH
        self._rows[at : at + _WIDTH] = row
        self._next = (self._next + 1) % self._steps

    def rows(self, first: int) -> Iterator[tuple[int, Point]]:
        """Each step from number `first` on, the oldest first."""
        count, rows = len(self), self._rows
        for number in range(count):
            at = (self._next + number) % count * _WIDTH
            if (step := int(rows[at])) >= first:
                values = rows[at + 1 : at + _WIDTH]
                yield step, Point(*(None if math.isnan(value) else value for value in values))

    def sum_of(self, column: int, first: int) -> float:
        """Of one number, over all steps from number `first` on."""
        count, rows = len(self), self._rows
        total = 0.0
        for number in range(count):  # from the newest back, as only few are wanted
            at = (self._next - 1 - number) % count * _WIDTH
            if rows[at] < first:
                break
            value = rows[at + 1 + column]
            total += 0.0 if math.isnan(value) else value
        return total


def point_json(point: Point, at_unix: float) -> dict[str, Any]:
    """A row for showing."""
    told: dict[str, Any] = {"at_unix": round(at_unix, 1)}
    for name, value in zip(Point._fields, point, strict=True):
        if value is None:
            told[name] = None
        elif name in _WHOLE:
            told[name] = int(value)
        else:
            told[name] = round(value, _DIGITS.get(name, 1))
    return told
