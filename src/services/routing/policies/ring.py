"""Which candidate a hash belongs to: rendezvous hashing that looks at a few instead of all.

Rendezvous hashing gives a hash to the candidate that scores highest with it; when one comes or goes, only its own
move. It costs a look at each. Here candidates stand on a ring in the order of their own hashes, and only the eight
that follow the given hash are looked at: with up to eight it is rendezvous hashing proper, with a thousand a change
moves only the hashes in whose window it is, and a candidate's share is that of its eight gaps, which vary by a third.
Bounded load makes up for that.
"""

import math
from bisect import bisect_left

from vastproxy.services.routing.candidate import Candidate, may_take, power
from vastproxy.services.routing.pool import Pool

WINDOW = 8
_MASK = (1 << 64) - 1


class Ring:
    """Keys in the order of their hashes."""

    def __init__(self) -> None:
        self._points: list[int] = []
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int) -> None:
        """One that is there already stays where it is."""
        point = mix(key)
        at = bisect_left(self._points, point)
        if at == len(self._points) or self._points[at] != point:
            self._points.insert(at, point)
            self._keys.insert(at, key)

    def discard(self, key: int) -> None:
        """One that is not there is nobody's business."""
        point = mix(key)
        at = bisect_left(self._points, point)
        if at < len(self._points) and self._points[at] == point:
            del self._points[at], self._keys[at]

    def owner(self, hashed: int, pool: Pool, exclude: tuple[int, ...] = ()) -> Candidate | None:
        """The one of `pool` that `hashed` belongs to, without the excluded and the full; None if all in the window
        are."""
        count = len(self._keys)
        start = bisect_left(self._points, mix(hashed))
        best, highest = None, 0.0
        for offset in range(min(WINDOW, count)):
            at = start + offset
            key = self._keys[at - count if at >= count else at]
            candidate = pool.get(key)
            if candidate is None or not may_take(candidate, exclude):
                continue
            # the shortest of exponential waits: each wins in proportion to its power
            luck = (mix(hashed ^ self._points[at - count if at >= count else at]) + 1) / (_MASK + 2)
            score = power(candidate) / -math.log(luck)
            if score > highest:
                best, highest = candidate, score
        return best


def mix(number: int) -> int:
    """64 bits of which each depends on each of the number's (the finalizer of SplitMix64): no two numbers below 2^64
    give the same."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)
