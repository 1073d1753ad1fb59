"""Who serves the next request. Knows backends by id only; membership is set from outside.

Round robin over the ids in ascending order. The position is kept as the id served last, not as an index alone, so
that a backend that comes or goes does not make another one be served twice or skipped.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable


class RoundRobin:
    """Takes turns. Choosing costs the same for any number of backends; a change of members is a binary search."""

    def __init__(self, start_after: int = 0) -> None:
        self._ids: list[int] = []
        self._last = start_after
        self._next = 0
        """Index of the first id above `_last`; the length of the list when there is none."""

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, backend_id: int) -> bool:
        position = bisect_left(self._ids, backend_id)
        return position < len(self._ids) and self._ids[position] == backend_id

    def set_available(self, ids: Iterable[int]) -> None:
        """From now on exactly these may be chosen."""
        self._ids = sorted(set(ids))
        self._find_next()

    def add(self, backend_id: int) -> None:
        """From now on this one may be chosen too. One that may be already is not chosen more often."""
        position = bisect_left(self._ids, backend_id)
        if position == len(self._ids) or self._ids[position] != backend_id:
            self._ids.insert(position, backend_id)
            self._find_next()

    def discard(self, backend_id: int) -> None:
        """From now on this one may not be chosen; one that may not already is nobody's business."""
        position = bisect_left(self._ids, backend_id)
        if position < len(self._ids) and self._ids[position] == backend_id:
            del self._ids[position]
            self._find_next()

    def pick(self, *, pin: int | None = None, exclude: Collection[int] = ()) -> int | None:
        """The backend for the next request, or None when nobody is left.

        `pin` wins if it is available and not excluded; it does not disturb the turns of the others.
        """
        if pin is not None and pin not in exclude and pin in self:
            return pin
        ids, position = self._ids, self._next
        for _ in range(len(ids)):
            if position >= len(ids):
                position = 0
            candidate = ids[position]
            position += 1
            if candidate not in exclude:
                self._last, self._next = candidate, position
                return candidate
        return None

    def _find_next(self) -> None:
        self._next = bisect_right(self._ids, self._last)
