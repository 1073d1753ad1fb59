"""The cheapest for what it does, until it has as much as it can do well; then the next.

What counts is the measured price of a token, dollars per hour over speed, not the price of an hour. An engine works
best near its knee: below it a request more costs the others hardly anything, above it they wait for one another.
"""

import random
from collections.abc import Collection

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate, may_take, power
from vastproxy.services.routing.policies.least_loaded import is_fresh, lightest
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policy import Choice, Hint

#: How often the order is renewed, as prices follow speeds: after an eighth of as many choices as there are members.
_RENEWED_PER_MEMBERS = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class CheapestFirst(Pooled):
    """Fills machines in the order of what a token costs on them. Those without a price come last."""

    hears_of_ends = True

    def __init__(self, rng: random.Random, *, knee: float = 0.75, knee_without_limit: int = 16) -> None:
        """`knee`: the share of a candidate's limit up to which it is filled. `knee_without_limit`: requests in flight
        up to which one is filled whose limit is not known."""
        super().__init__(rng)
        self._share = knee
        self._without_limit = knee_without_limit
        self._order: list[int] = []
        """Keys, the cheapest first."""
        self._rank: dict[int, int] = {}
        self._first = 0
        """Nobody before this rank was below its knee when it was looked at last."""
        self._left = 0
        """Choices until the order is renewed."""

    def offer(self, candidate: Candidate) -> None:
        if self.pool.add(candidate):
            self._left = 0

    def withdraw(self, key: int) -> None:
        if self.pool.discard(key):
            self._left = 0

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        self._renew()
        passed = False
        for rank in range(self._first, len(self._order)):
            candidate = self.pool.get(self._order[rank])
            if candidate is None or not self._has_room(candidate, now):
                if not passed:
                    self._first = rank + 1
            elif candidate.key in exclude:
                passed = True  # there is room for others
            else:
                return Choice(candidate, "cheapest", ((candidate.key, price(candidate)),), self.pool.count)
        drawn = self.pool.draw(exclude)
        return Choice(lightest(drawn, now), "spilled", (), self.pool.count) if drawn else None

    def finished(self, key: int, now: float) -> None:
        """See `Policy.finished`. A cheap one may have room again."""
        self._first = min(self._first, self._rank.get(key, self._first))

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """What its work costs."""
        return price(candidate), "price" if self._has_room(candidate, now) else "above knee"

    def knee(self, candidate: Candidate) -> int:
        """Requests in flight up to which it is filled before the next one."""
        limit = candidate.limit
        return self._without_limit if limit is None else max(1, int(limit * self._share))

    def _has_room(self, candidate: Candidate, now: float) -> bool:
        queues = is_fresh(candidate, now) and bool(candidate.waiting)
        return not queues and candidate.in_flight < self.knee(candidate) and may_take(candidate)

    def _renew(self) -> None:
        self._left -= 1
        if self._left >= 0:
            return
        self._left = len(self.pool) // _RENEWED_PER_MEMBERS - 1
        ordered = sorted(self.pool, key=lambda each: (price(each), each.key))
        self._order = [each.key for each in ordered]
        self._rank = {key: rank for rank, key in enumerate(self._order)}
        self._first = 0


def price(candidate: Candidate) -> float:
    """Dollars for an hour of a machine that does one unit of work per second; inf when its cost is not known."""
    cost = candidate.hourly_cost
    return float("inf") if cost is None else cost / power(candidate)
