"""Where the beginning of the prompt has been before, as long as that one has not much more to do than the others.

There are five cases:

1. Nothing of the prompt is known: the least loaded takes it, and is its home from then on.
2. A home of the longest known beginning has room: it takes it. Room is up to 1.25 times its share of all requests in
   flight, and in any case a few, which one batch takes in its stride.
3. It has one home, which has no room: the candidate that the beginning's hash falls to, if that one has room. It is
the second home from then on.
4. Nobody of these has room: the least loaded. The beginning's homes stay, the part of the prompt behind it moves.
5. A home would have room, but somebody else has so much less to do that computing the prompt again is sooner done.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policies.homes import MAX_HOMES, Homes
from vastproxy.services.routing.policies.least_loaded import ONLY, is_fresh, least, lightest, load
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policies.ring import Ring
from vastproxy.services.routing.policy import Choice, Hint


@dataclass(frozen=True, slots=True)
class AffinityLimits:
    """How far stickiness goes."""

    load_factor: float = 1.25
    """Times its share of all requests in flight that a home may have. Lower spreads more and
    remembers less; HAProxy calls 1.25 to 2 reasonable for the same number (hash-balance-factor)."""
    free_in_flight: int = 4
    """Requests that a home may have in any case: engines batch them at hardly any loss."""
    wait_factor: float = 4.0
    """Times the load of the least loaded that a home's may be."""
    queue_gap: int = 4
    """Requests that may wait in a home's engine more than in the least loaded's, as far as both tell."""


_DEFAULT = AffinityLimits()


@mypyc_attr(allow_interpreted_subclasses=True)
class PrefixAffinity(Pooled):
    """Bounded-load affinity to where the same beginning was served."""

    def __init__(
        self, rng: random.Random, limits: AffinityLimits = _DEFAULT, *, homes: Homes | None = None
    ) -> None:
        """`homes`: may be shared by the policies of several models, as a beginning is one of a model."""
        super().__init__(rng)
        self.homes = Homes() if homes is None else homes
        self._limits = limits
        self._ring = Ring()

    def offer(self, candidate: Candidate) -> None:
        if self.pool.add(candidate):
            self._ring.add(candidate.key)

    def withdraw(self, key: int) -> None:
        if self.pool.discard(key):
            self._ring.discard(key)

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        pool = self.pool
        rival, scores = least(pool, now, exclude)
        if rival is None:
            return None
        depth, keys = self.homes.find(hint.prefix, pool) if hint.prefix else (0, ())
        if not keys:
            return Choice(rival, "least loaded" if scores else ONLY, scores, pool.count)
        homes = [each for key in keys if (each := self.pool.get(key)) and may_take(each, exclude)]
        if homes:
            home = lightest(homes, now)
            if self._has_room(home, rival, now):
                return Choice(home, "prefix", self._scores(home, rival), pool.count)
        if len(keys) < MAX_HOMES:
            second = self._ring.owner(hint.prefix[depth - 1], self.pool, (*keys, *exclude))
            if second is not None and self._has_room(second, rival, now):
                return Choice(second, "second home", self._scores(second, rival), pool.count)
        return Choice(rival, "spilled", self._scores(rival, *homes), pool.count)

    @staticmethod
    def _scores(*candidates: Candidate) -> list[tuple[int, float]]:
        return [(each.key, load(each)) for each in dict.fromkeys(candidates)]

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """See `Policy.assigned`. Where it went is where the prompt is known from now on."""
        self.homes.record(hint.prefix, key, self.pool)

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """Its load; homes are marked, and stand before the others while they have room."""
        its_load = load(candidate, queued=is_fresh(candidate, now))
        _, keys = self.homes.find(hint.prefix, self.pool)
        if candidate.key not in keys:
            return its_load, "load"
        rival = min(self.pool, key=load)
        return (
            (0.0, "home")
            if self._has_room(candidate, rival, now, exact=True)
            else (its_load, "home without room")
        )

    def _has_room(self, home: Candidate, rival: Candidate, now: float, *, exact: bool = False) -> bool:
        if home is rival:
            return True
        limits = self._limits
        if is_fresh(home, now) and is_fresh(rival, now):
            gap = (home.waiting or 0) - (rival.waiting or 0)
            if gap > limits.queue_gap:
                return False
        count = home.in_flight
        if count < limits.free_in_flight:
            return True
        # rounded up, or nobody could have anything while there is little
        return count < limits.load_factor * self.pool.due(home, exact=exact) and load(
            home
        ) <= limits.wait_factor * load(rival)
