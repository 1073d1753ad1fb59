"""Who a client has asked for comes before any policy: first the pin, then the session's last place, then the
policy."""

import random
from collections import OrderedDict
from collections.abc import Collection

from vastproxy.services.routing.candidate import Candidate, may_take
from vastproxy.services.routing.policies.least_loaded import lightest
from vastproxy.services.routing.policies.pooled import PooledPolicy
from vastproxy.services.routing.policy import Choice, Hint, Score
from vastproxy.services.routing.pool import Pool


class Places:
    """Where sessions were served last. Those idle for longest are forgotten first."""

    def __init__(self, *, max_sessions: int = 65_536, idle_s: float = 3600.0) -> None:
        """`idle_s`: how long a session without a request is remembered."""
        self._max = max_sessions
        self._idle_s = idle_s
        self._places: OrderedDict[int, tuple[int, float]] = OrderedDict()
        """Session -> key and the time of its last request, in the order of that time."""

    def __len__(self) -> int:
        """Sessions remembered."""
        return len(self._places)

    def find(self, session: int, now: float) -> int:
        """The key of its place; -1 for none."""
        key, used = self._places.get(session, (-1, now))
        return key if now - used <= self._idle_s else -1

    def record(self, session: int, key: int, now: float) -> None:
        """Its last request has gone to `key`."""
        self._expire(now)
        self._places[session] = (key, now)
        self._places.move_to_end(session)
        if len(self._places) > self._max:
            self._places.popitem(last=False)

    def _expire(self, now: float) -> None:
        """Two at most, so that it costs the same each time and still shrinks faster than it grows."""
        for _ in range(2):
            if not self._places:
                return
            session, (_, used) = next(iter(self._places.items()))
            if now - used <= self._idle_s:
                return
            del self._places[session]


class Sticky:
    """A policy around another one. Both wishes are granted while the wanted one has a place, never waited for: a
    session whose place is taken or gone moves."""

    def __init__(self, inner: PooledPolicy, rng: random.Random, *, places: Places | None = None) -> None:
        """`places`: may be shared by the policies of several models; a session has a place for each of them."""
        self.inner = inner
        self._pool = inner.pool
        self._places = Places() if places is None else places
        self._mine = rng.getrandbits(64)
        """Tells this policy's sessions from those of others that share the places."""

    @property
    def pool(self) -> Pool:
        """Its members."""
        return self._pool

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
            place = self._pool.get(self._places.find(hint.session ^ self._mine, now))
            if place is not None:
                if may_take(place, exclude):
                    return Choice(place, "session")
                if (choice := self.inner.choose(hint, now, exclude=exclude)) is not None:
                    choice.why = "session moved"
                return choice
        return self.inner.choose(hint, now, exclude=exclude)

    def assigned(self, key: int, hint: Hint, now: float) -> None:
        """See `Policy.assigned`. The session's next request goes there too."""
        self.inner.assigned(key, hint, now)
        if hint.session is not None:
            self._places.record(hint.session ^ self._mine, key, now)

    def finished(self, key: int, now: float) -> None:
        """See `Policy.finished`."""
        self.inner.finished(key, now)

    def scores(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> list[Score]:
        """See `Policy.scores`."""
        found = self.inner.scores(hint, now, exclude=exclude)
        pinned = {each.key for each in self._pool.of_instance(hint.pin)} if hint.pin is not None else set()
        place = self._places.find(hint.session ^ self._mine, now) if hint.session is not None else -1
        return [self._marked(score, pinned, place) for score in found]

    def _marked(self, score: Score, pinned: set[int], place: int) -> Score:
        if score.why in ("full", "excluded") or not (score.key in pinned or score.key == place):
            return score
        return Score(score.key, float("-inf"), "pinned" if score.key in pinned else "session")
