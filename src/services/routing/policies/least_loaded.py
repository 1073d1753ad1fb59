"""The less loaded of two drawn at random, by what they have to do and how fast they do it.

Two drawn at random and compared come close to comparing all (the longest queue grows with log log n instead of log n),
cost the same for three as for a thousand, and do not send everybody to the one that a late sample shows as idle.
"""

from collections.abc import Collection, Sequence

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policy import Choice, Hint
from vastproxy.services.routing.pool import Pool

#: How old an engine's word on its queue may be. Engines are asked every 5 s (engines.load_interval_s); an older one
#: has missed a turn.
FRESH_S = 7.5
#: The power of one that is trusted with nothing: nobody is divided by zero.
_NEXT_TO_NOTHING = 1e-9
_INFINITE = float("inf")
#: Why one is chosen that is not compared with anybody.
ONLY = "the only one with a place"


@mypyc_attr(allow_interpreted_subclasses=True)
class LeastLoaded(Pooled):
    """The lowest (in flight + 1) / (speed · weight), so that machines of any size can share a pool."""

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        best, scores = least(self.pool, now, exclude)
        return (
            None
            if best is None
            else Choice(best, "least loaded" if scores else ONLY, scores, self.pool.count)
        )

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
    return work / (candidate.speed * candidate.weight or _NEXT_TO_NOTHING)


def least(
    pool: Pool, now: float, exclude: Collection[int] = ()
) -> tuple[Candidate | None, Sequence[tuple[int, float]]]:
    """The less loaded of two drawn from `pool`, or the least of all of them where they are few; and what was compared.
    None if nobody has a place."""
    if pool.count == 1 and not exclude:
        only = pool.members[0]
        return (only if only.limit is None or only.in_flight < only.limit else None), ()
    if pool.count == 2 and not exclude:  # as in most fleets there are; the same as below, at half the price
        one, other = pool.members
        if one.limit is None and other.limit is None and (one.waiting is None or other.waiting is None):
            mine = (one.in_flight + 1) / (one.speed * one.weight or _NEXT_TO_NOTHING)
            its = (other.in_flight + 1) / (other.speed * other.weight or _NEXT_TO_NOTHING)
            is_mine = mine < its or (mine == its and pool.toss())
            return (one if is_mine else other), ((one.key, mine), (other.key, its))
    drawn = pool.draw(exclude)
    return compare(drawn, now) if drawn else (None, ())


def compare(candidates: Sequence[Candidate], now: float) -> tuple[Candidate, Sequence[tuple[int, float]]]:
    """The one with the least load, the first of several; and the loads of all, by key. Queues count only where all of
    them are known and fresh: half of a comparison would punish who tells. Raises for nobody."""
    best = candidates[0]
    if len(candidates) == 1:
        return best, ()
    queued = best.waiting is not None and all(is_fresh(each, now) for each in candidates)
    loads = []
    least = _INFINITE
    for each in candidates:  # `load`, without the price of a call
        work = each.in_flight + 1 + ((each.waiting or 0) if queued else 0)
        its = work / (each.speed * each.weight or _NEXT_TO_NOTHING)
        loads.append((each.key, its))
        if its < least:
            best, least = each, its
    return best, loads


def lightest(candidates: Sequence[Candidate], now: float) -> Candidate:
    """The one with the least load, as in `compare`."""
    return compare(candidates, now)[0]
