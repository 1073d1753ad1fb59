"""What the policies have in common: members, and a score for each of them."""

import random
from collections.abc import Collection
from typing import Protocol

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policy import Choice, Hint, Policy, Score
from vastproxy.services.routing.pool import Pool


class PooledPolicy(Policy, Protocol):
    """A policy that shows its members."""

    pool: Pool
    hears_of_ends: bool


@mypyc_attr(allow_interpreted_subclasses=True)
class Pooled:
    """What a policy is made from: everything but `choose` and `judge`. Its members are in `pool`."""

    hears_of_ends = False
    """Does `finished` do anything?"""

    def __init__(self, rng: random.Random) -> None:
        self.pool = Pool(rng)

    def __len__(self) -> int:
        return len(self.pool)

    def __contains__(self, key: int) -> bool:
        return key in self.pool

    def offer(self, candidate: Candidate) -> None:
        """See `Policy.offer`."""
        self.pool.add(candidate)

    def withdraw(self, key: int) -> None:
        """See `Policy.withdraw`."""
        self.pool.discard(key)

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        raise NotImplementedError

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """See `Policy.assigned`."""

    def finished(self, key: int, now: float) -> None:
        """See `Policy.finished`."""

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """Score and reason of a member that has a place, for `vastproxy explain`; the lowest score is the best."""
        raise NotImplementedError

    def scores(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> list[Score]:
        """See `Policy.scores`."""
        found = []
        for each in sorted(self.pool, key=_key):
            score, why = self.judge(each, hint, now)
            if each.key in exclude:
                why = "excluded"
            elif not may_take(each):
                why = "full"
            found.append(Score(each.key, score, why))
        return found


def _key(candidate: Candidate) -> int:
    return candidate.key
