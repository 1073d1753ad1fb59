"""Who a client has asked for comes before any policy: first the pin, then the session's last place, then the
policy."""

from collections import OrderedDict
from collections.abc import Collection

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policies.least_loaded import lightest
from vastproxy.services.routing.policies.pooled import PooledPolicy
from vastproxy.services.routing.policy import Choice, Hint, Score


class Sticky:
    """A policy around another one. Both wishes are granted while the wanted one has a place, never waited for: a
    session whose place is taken or gone moves."""

    def __init__(self, inner: PooledPolicy, *, max_sessions: int = 65_536, idle_s: float = 3600.0) -> None:
        """`idle_s`: how long a session without a request is remembered; its bound is
        `max_sessions`, and those idle for longest are forgotten first."""
        self.inner = inner
        self._pool = inner.pool
        self._max = max_sessions
        self._idle_s = idle_s
        self._places: OrderedDict[int, tuple[int, float]] = OrderedDict()
        """Session -> key and the time of its last request, in the order of that time."""

    def __len__(self) -> int:
        """Sessions remembered."""
        return len(self._places)

    def offer(self, candidate: Candidate) -> None:
        """See `Policy.offer`."""
        self.inner.offer(candidate)

    def withdraw(self, key: int) -> None:
        """See `Policy.withdraw`."""
        self.inner.withdraw(key)

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        """See `Policy.choose`."""
        if hint.pin is not None:
            pinned = [each for each in self._pool.of_instance(hint.pin) if may_take(each, exclude)]
            if pinned:
                return Choice(lightest(pinned, now), "pinned")
        if hint.session is not None:
            place = self._pool.get(self._place(hint.session, now))
            if place is not None and may_take(place, exclude):
                return Choice(place, "session")
        return self.inner.choose(hint, now, exclude=exclude)

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """See `Policy.assigned`. The session's next request goes there too."""
        self.inner.assigned(key, hint, now)
        self._expire(now)
        if hint.session is not None:
            self._places[hint.session] = (key, now)
            self._places.move_to_end(hint.session)
            if len(self._places) > self._max:
                self._places.popitem(last=False)

    def finished(self, key: int, now: float) -> None:
        """See `Policy.finished`."""
        self.inner.finished(key, now)

    def scores(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> list[Score]:
        """See `Policy.scores`."""
        found = self.inner.scores(hint, now, exclude=exclude)
        pinned = {each.key for each in self._pool.of_instance(hint.pin)} if hint.pin is not None else set()
        place = self._place(hint.session, now) if hint.session is not None else -1
        return [self._marked(score, pinned, place) for score in found]

    def _marked(self, score: Score, pinned: set[int], place: int) -> Score:
        if score.why in ("full", "excluded") or not (score.key in pinned or score.key == place):
            return score
        return Score(score.key, float("-inf"), "pinned" if score.key in pinned else "session")

    def _place(self, session: int, now: float) -> int:
        key, used = self._places.get(session, (-1, now))
        return key if now - used <= self._idle_s else -1

    def _expire(self, now: float) -> None:
        """Two at most, so that it costs the same each time and still shrinks faster than it grows."""
        for _ in range(2):
            if not self._places:
                return
            session, (_, used) = next(iter(self._places.items()))
            if now - used <= self._idle_s:
                return
            del self._places[session]
