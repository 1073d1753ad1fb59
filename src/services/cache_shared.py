"""A cache that several proxies share, and that each of them can do without.

While the store can be used, it alone says what is fresh, so that what one proxy invalidates no other goes on with. One
of those who miss a key fetches it, here and in all other processes: the others look every few hundredths of a second
whether it has come. While the store cannot be used, each process goes on with what it has in its own memory.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from vastproxy.services.cache_redis import Claim, RedisStore, StoreUnavailable
from vastproxy.vastai.cache import Kept, MemoryCache

#: How long others wait for a process that has died while it fetched. One that lives says so three times as often.
LOCK_S = 3.0
#: How long they wait for one that lives: reading 1,000 instances, 25 a second, takes most of it.
WAIT_S = 60.0
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.02, 0.25
#: More prefixes than that could not be told to the store while it was away: then everything is invalidated.
_MAX_UNSENT = 64


class SharedCache:
    """`Cache` over a store and this process's memory. `stale_s`: how much longer than its time to live `last` knows a
    value. `lock_s` and `wait_s`: see LOCK_S and WAIT_S; `sleep` is what waits for other processes."""

    def __init__(
        self,
        store: RedisStore,
        memory: MemoryCache,
        *,
        stale_s: float = 0.0,
        lock_s: float = LOCK_S,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._store = store
        self._memory = memory
        self._stale_s = stale_s
        self._lock_s = lock_s
        self._wait_s = wait_s
        self._clock = clock
        self._sleep = threading.Event().wait if sleep is None else sleep
        self._unsent: set[str] = set()
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def __repr__(self) -> str:
        return f"<SharedCache {self._store.where}>"

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        return self._memory.renew(key, lambda: self._ask(key, fetch, ttl_s), ttl_s)

    def last(self, key: str, max_age_s: float) -> Kept | None:
        mine = self._memory.last(key, max_age_s)
        found = None
        with contextlib.suppress(StoreUnavailable):
            found = self._store.read(key)
        if found is None or found.kept.age_s > max_age_s:
            return mine
        return found.kept if mine is None or found.kept.age_s < mine.age_s else mine

    def invalidate(self, prefix: str) -> None:
        self._memory.invalidate(prefix)
        with self._lock:
            self._unsent.add(prefix)
            if len(self._unsent) > _MAX_UNSENT:
                self._unsent = {""}
        with contextlib.suppress(StoreUnavailable):
            self._send()

    def close(self) -> None:
        self._store.close()

    def _send(self) -> None:
        """Tell the store what was invalidated, also while it was away. Raises StoreUnavailable."""
        if not self._unsent and not self._sending.locked():
            return
        with self._sending:  # nobody reads while somebody else is still telling
            with self._lock:
                prefixes, self._unsent = self._unsent, set()
            try:
                for prefix in prefixes:
                    self._store.forget(prefix)
            except StoreUnavailable:
                with self._lock:
                    self._unsent |= prefixes
                raise

    def _ask(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Kept:
        try:
            self._send()
            found = self._look_or_claim(key, ttl_s)
        except StoreUnavailable:
            return self._memory.fresh(key) or Kept(fetch(), 0.0)
        return found if isinstance(found, Kept) else self._fetch(found, fetch, ttl_s)

    def _look_or_claim(self, key: str, ttl_s: float) -> Kept | Claim:
        """The value, or the right to fetch it. Somebody who fetches for too long is not waited for."""
        until, pause_s = self._clock() + self._wait_s, _FIRST_LOOK_S
        while True:
            if (kept := self._fresh(key, ttl_s)) is not None:
                return kept
            claim = self._store.claim(key, self._lock_s)
            if claim.mine:
                # Who held the lock until now may have written since we looked.
                if (kept := self._fresh(key, ttl_s)) is not None:
                    self._store.release(claim)
                    return kept
                return claim
            if self._clock() >= until:
                return claim
            self._sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_LOOK_S)

    def _fresh(self, key: str, ttl_s: float) -> Kept | None:
        found = self._store.read(key)
        return found.kept if found is not None and found.valid and found.kept.age_s < ttl_s else None

    def _fetch(self, claim: Claim, fetch: Callable[[], Any], ttl_s: float) -> Kept:
        with self._holding(claim) if claim.mine else contextlib.nullcontext():
            value = fetch()
            with contextlib.suppress(StoreUnavailable):
                self._store.write(claim, value, ttl_s + self._stale_s)
            return Kept(value, 0.0)

    @contextlib.contextmanager
    def _holding(self, claim: Claim) -> Iterator[None]:
        """Our lock lives for as long as we fetch."""
        over = threading.Event()

        def extend() -> None:
            while not over.wait(self._lock_s / 3):
                with contextlib.suppress(StoreUnavailable):
                    self._store.extend(claim, self._lock_s)

        extending = threading.Thread(target=extend, name="cache-lock", daemon=True)
        extending.start()
        try:
            yield
        finally:
            over.set()
            with contextlib.suppress(StoreUnavailable):
                self._store.release(claim)
            extending.join()  # or it would still ask when the connections are closed
