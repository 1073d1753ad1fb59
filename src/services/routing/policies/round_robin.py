"""Everybody in turn, in the order of keys, whatever they are worth."""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Collection

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policy import Choice, Hint


@mypyc_attr(allow_interpreted_subclasses=True)
class RoundRobinPolicy(Pooled):
    """The position is the key served last, not an index, so that one who comes or goes does not make another one be
    served twice or skipped."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._keys: list[int] = []
        self._last = -1
        self._next = 0
        """Index of the first key above `_last`; the length of the list when there is none."""

    def offer(self, candidate: Candidate) -> None:
        if self.pool.add(candidate):
            key = candidate.key
            self._keys.insert(bisect_left(self._keys, key), key)
            self._next = bisect_right(self._keys, self._last)

    def withdraw(self, key: int) -> None:
        if self.pool.discard(key):
            del self._keys[bisect_left(self._keys, key)]
            self._next = bisect_right(self._keys, self._last)

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`. The turn is taken by being chosen."""
        keys, position = self._keys, self._next
        for _ in range(len(keys)):
            if position >= len(keys):
                position = 0
            key = keys[position]
            position += 1
            candidate = self.pool.get(key)
            if candidate is not None and may_take(candidate, exclude):
                self._last, self._next = key, position
                return Choice(candidate, "turn", (), len(keys))
        return None

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """The number of turns that come before its own."""
        turns = (bisect_left(self._keys, candidate.key) - self._next) % len(self._keys)
        return float(turns), "turn" if turns == 0 else "later"
