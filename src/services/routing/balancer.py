"""Who serves the next request. Knows backends by id only; membership is set from outside.

Round robin over the ids in ascending order. The position is the id served last, not an index, so that a
backend that comes or goes does not make another one be served twice or skipped.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable


class RoundRobin:
    """Takes turns. Choosing is O(log n) in the number of backends; so is nothing else on the request path."""

    def __init__(self, start_after: int = 0) -> None:
        self._ids: list[int] = []
        self._last = start_after

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, backend_id: int) -> bool:
        position = bisect_right(self._ids, backend_id) - 1
        return position >= 0 and self._ids[position] == backend_id

    def set_available(self, ids: Iterable[int]) -> None:
        """From now on exactly these may be chosen."""
        self._ids = sorted(ids)

    def pick(self, *, pin: int | None = None, exclude: Collection[int] = ()) -> int | None:
        """The backend for the next request, or None when nobody is left.

        `pin` wins if it is available and not excluded; it does not disturb the turns of the others.
        """
        if pin is not None and pin not in exclude and pin in self:
            return pin
        ids = self._ids
        start = bisect_right(ids, self._last)
        for offset in range(len(ids)):
            candidate = ids[(start + offset) % len(ids)]
            if candidate not in exclude:
                self._last = candidate
                return candidate
        return None
