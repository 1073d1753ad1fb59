"""Get-or-fetch: answers kept for a moment, and asked for once however many want them.

What is kept are JSON values (dict, list, str, numbers, None), so that a cache may live in another process.
Nobody changes a value that came out of a cache.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from cachetools import TLRUCache


class Cache(Protocol):
    """Where answers are kept. Safe to use from several threads."""

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        """The value at `key`, else what `fetch` returns, which is then kept for `ttl_s` seconds.

        Several callers that miss at the same time share one fetch and its value or error; an error is not
        kept. `fetch` must not ask for the same key again.
        """
        ...

    def invalidate(self, prefix: str) -> None:
        """Forget every key that begins with `prefix`, and what is being fetched for such a key now.

        A caller that comes after this never gets a value whose fetch began before it.
        """
        ...


class NoCache:
    """Keeps nothing and shares nothing."""

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        return fetch()

    def invalidate(self, prefix: str) -> None:
        pass


class _Flight:
    """One fetch. Once `done` is set it has an `error`, or is `settled` and has a `value`, or was cut off."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.settled = False
        self.value: Any = None
        self.error: Exception | None = None


class MemoryCache:
    """A cache in this process: the least recently used of `max_entries` values goes first."""

    def __init__(self, max_entries: int = 256, *, timer: Callable[[], float] = time.monotonic) -> None:
        # Not TTLCache: the time to live is the caller's, and TLRUCache has one per entry.
        self._kept: TLRUCache[str, tuple[Any, float]] = TLRUCache(
            max_entries, ttu=lambda _key, entry, now: now + entry[1], timer=timer
        )
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        with self._lock:
            return f"<MemoryCache {len(self._kept)} kept, {len(self._flights)} being fetched>"

    def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
        while True:
            with self._lock:
                if (entry := self._kept.get(key)) is not None:
                    return entry[0]
                flight = self._flights.get(key)
                if mine := flight is None:
                    flight = self._flights[key] = _Flight()
            if mine:
                return self._fly(key, flight, fetch, ttl_s)
            flight.done.wait()
            if flight.error is not None:
                raise flight.error
            if flight.settled:
                return flight.value
            # The fetching thread was interrupted (not by an error): somebody else has to fetch.

    def _fly(self, key: str, flight: _Flight, fetch: Callable[[], Any], ttl_s: float) -> Any:
        try:
            value = fetch()
            flight.value, flight.settled = value, True
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                # An invalidation has taken the flight away: its waiters get the value, nobody after them.
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    if flight.settled:
                        self._kept[key] = (flight.value, ttl_s)
            flight.done.set()
        return value

    def invalidate(self, prefix: str) -> None:
        with self._lock:
            for kept in [key for key in self._kept if key.startswith(prefix)]:
                self._kept.pop(kept, None)
            for flying in [key for key in self._flights if key.startswith(prefix)]:
                del self._flights[flying]
