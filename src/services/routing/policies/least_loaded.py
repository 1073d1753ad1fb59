"""The less loaded of two drawn at random, by what they have to do and how fast they do it.

Two drawn at random and compared come close to comparing all (the longest queue grows with log log n instead of log n),
cost the same for three as for a thousand, and do not send everybody to the one that a late sample shows as idle.
"""

from collections.abc import Collection, Sequence

from vastproxy.services.routing.candidate import MIN_WEIGHT, Candidate
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policy import Choice, Hint

#: How old an engine's word on its queue may be. Engines are asked every 5 s (engines.load_interval_s); an older one
#: has missed a turn.
FRESH_S = 7.5
#: Why one is chosen that is not compared with anybody.
ONLY = "the only one with a place"


class LeastLoaded(Pooled):
    """The lowest (in flight + 1) / (speed · weight), so that machines of any size can share a pool."""

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        drawn = self.pool.draw(exclude)
        if len(drawn) < 2:
            return Choice(drawn[0], ONLY) if drawn else None
        best, scores = compare(drawn, now)
        return Choice(best, "least loaded", scores, self.pool.count)

    def judge(self, candidate: Candidate, hint: Hint, now: float) -> tuple[float, str]:
        """Its load, the engine's queue included where it is known."""
        if is_fresh(candidate, now):
            return load(candidate, queued=True), "load with queue"
        return load(candidate), "load"


def is_fresh(candidate: Candidate, now: float) -> bool:
    """Is what its engine said about its queue young enough to be compared with another one's?"""
    return candidate.waiting is not None and now - candidate.waiting_at <= FRESH_S


def load(candidate: Candidate, *, queued: bool = False) -> float:
    """The work before it if it got one request more, in units of its speed. `queued`: with the engine's own queue,
    which shows what others send it, and that ours get no further."""
    work = candidate.in_flight + 1
    if queued:
        work += candidate.waiting or 0
    weight = candidate.weight
    return work / (candidate.speed * (weight if weight > MIN_WEIGHT else MIN_WEIGHT))


def compare(candidates: Sequence[Candidate], now: float) -> tuple[Candidate, Sequence[tuple[int, float]]]:
    """The one with the least load, the first of several; and the loads of all, by key. Queues count only where all of
    them are known and fresh: half of a comparison would punish who tells. Raises for nobody."""
    best = candidates[0]
    if len(candidates) == 1:
        return best, ()
    queued = True
    for each in candidates:
        if each.waiting is None or now - each.waiting_at > FRESH_S:
            queued = False
            break
    scores = []
    least = float("inf")
    for each in candidates:  # `load`, without the price of a call
        work, weight = each.in_flight + 1, each.weight
        if queued:
            work += each.waiting or 0
        its = work / (each.speed * (weight if weight > MIN_WEIGHT else MIN_WEIGHT))
        scores.append((each.key, its))
        if its < least:
            best, least = each, its
    return best, scores


def lightest(candidates: Sequence[Candidate], now: float) -> Candidate:
    """The one with the least load, as in `compare`."""
    return compare(candidates, now)[0]
