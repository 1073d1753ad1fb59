"""Get-or-fetch: answers kept for a moment, and asked for once however many want them.

What is kept are JSON values (dict, list, str, numbers, None), so that a cache may live in another process.
Nobody changes a value that came out of a cache.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cachetools import TLRUCache


@dataclass(frozen=True, slots=True)
class Kept:
    """A value out of a cache, and how many seconds ago it was fetched."""

    value: Any
    age_s: float


class Cache(Protocol):
    """Where answers are kept. Safe to use from several threads."""

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        """The value at `key`, else what `fetch` returns, which is then kept for `ttl_s` seconds.

        Several callers that miss at the same time share one fetch and its value or error; an error is not
        kept. `fetch` must not ask for the same key again.
        """
        ...

    def last(self, key: str, max_age_s: float) -> Kept | None:
        """The newest value at `key` that is at most so old, be it too old for an answer or invalidated.

        For whoever has failed to fetch it and is better off with an old value than with none.
        """
        ...

    def invalidate(self, prefix: str) -> None:
        """Forget every key that begins with `prefix`, and what is being fetched for such a key now.

        A caller that comes after this never gets a value whose fetch began before it, except from `last`.
        """
        ...

    def close(self) -> None:
        """Let go of connections. May be called twice; the cache can be used afterwards."""
        ...


class NoCache:
    """Keeps nothing and shares nothing."""

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        return fetch()

    def last(self, key: str, max_age_s: float) -> Kept | None:
        return None

    def invalidate(self, prefix: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Flight:
    """One fetch. Once `done` is set it has an `error`, or is `settled` and has a `value`, or was cut off."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.settled = False
        self.value: Any = None
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    value: Any
    fetched_at: float
    until: float


class MemoryCache:
    """A cache in this process: the least recently used of `max_entries` values goes first.

    `stale_s`: how much longer than its time to live `last` knows a value.
    """

    def __init__(
        self, max_entries: int = 256, *, stale_s: float = 0.0, timer: Callable[[], float] = time.monotonic
    ) -> None:
        # Not TTLCache: the time to live is the caller's, and TLRUCache has one per entry.
        self._kept: TLRUCache[str, _Entry] = TLRUCache(
            max_entries, ttu=lambda _key, entry, _now: entry.until, timer=timer
        )
        self._old: TLRUCache[str, _Entry] = TLRUCache(
            max_entries, ttu=lambda _key, entry, _now: entry.until + stale_s, timer=timer
        )
        self._timer = timer
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        with self._lock:
            return f"<MemoryCache {len(self._kept)} kept, {len(self._flights)} being fetched>"

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        return self._fly(key, lambda: Kept(fetch(), 0.0), ttl_s, look=True)

    def renew(self, key: str, fetch: Callable[[], Kept], ttl_s: float) -> Any:
        """As `get_or_fetch`, but what is kept does not count. `fetch` says how old its value is already."""
        return self._fly(key, fetch, ttl_s, look=False)

    def fresh(self, key: str) -> Kept | None:
        """The value at `key` that `get_or_fetch` would return without a fetch."""
        with self._lock:
            return self._aged(self._kept.get(key))

    def last(self, key: str, max_age_s: float) -> Kept | None:
        with self._lock:
            kept = self._aged(self._old.get(key))
        return kept if kept is not None and kept.age_s <= max_age_s else None

    def invalidate(self, prefix: str) -> None:
        with self._lock:
            for kept in [key for key in self._kept if key.startswith(prefix)]:
                self._kept.pop(kept, None)
            for flying in [key for key in self._flights if key.startswith(prefix)]:
                del self._flights[flying]

    def close(self) -> None:
        pass

    def _aged(self, entry: _Entry | None) -> Kept | None:
        return None if entry is None else Kept(entry.value, max(0.0, self._timer() - entry.fetched_at))

    def _fly(self, key: str, fetch: Callable[[], Kept], ttl_s: float, *, look: bool) -> Any:
        while True:
            with self._lock:
                if look and (entry := self._kept.get(key)) is not None:
                    return entry.value
                flight = self._flights.get(key)
                if mine := flight is None:
                    flight = self._flights[key] = _Flight()
            if mine:
                return self._fetch(key, flight, fetch, ttl_s)
            flight.done.wait()
            if flight.error is not None:
                raise flight.error
            if flight.settled:
                return flight.value
            # The fetching thread was interrupted (not by an error): somebody else has to fetch.

    def _fetch(self, key: str, flight: _Flight, fetch: Callable[[], Kept], ttl_s: float) -> Any:
        age_s = 0.0
        try:
            kept = fetch()
            age_s = kept.age_s
            flight.value, flight.settled = kept.value, True
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                # An invalidation has taken the flight away: its waiters get the value, nobody after them.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    if flight.settled:
                        self._keep(key, flight.value, age_s, ttl_s)
            flight.done.set()
        return flight.value

    def _keep(self, key: str, value: Any, age_s: float, ttl_s: float) -> None:
        fetched_at = self._timer() - age_s
        entry = _Entry(value, fetched_at, fetched_at + ttl_s)
        # One that is over already is not put in, and must not leave an older one there.
        self._kept.pop(key, None)
        self._kept[key] = self._old[key] = entry
