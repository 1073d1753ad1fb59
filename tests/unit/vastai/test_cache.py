"""The caches: one fetch per key and moment, nothing stale after an invalidation."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.unit.vastai.support import Clock
from vastproxy.vastai.cache import Kept, MemoryCache, NoCache


class Fetch:
    """Counts its calls and, if `held`, stays inside until released."""

    def __init__(self, *, held: bool = False, error: BaseException | None = None) -> None:
        self.calls = 0
        self.entered = threading.Event()
        self.release = threading.Event()
        self.error = error
        if not held:
            self.release.set()

    def __call__(self) -> int:
        self.calls += 1
        mine = self.calls
        self.entered.set()
        assert self.release.wait(20)
        if self.error is not None:
            raise self.error
        return mine


def waiting(
    cache: MemoryCache, key: str, fetch: Callable[[], int], pool: ThreadPoolExecutor, count: int
) -> list[Future[int]]:
    """Callers that ask for a key which is being fetched; returns once all of them are about to wait."""
    arrived = threading.Barrier(count + 1)

    def ask() -> int:
        arrived.wait(20)
        value: int = cache.get_or_fetch(key, fetch, 5.0)
        return value

    futures = [pool.submit(ask) for _ in range(count)]
    arrived.wait(20)
    return futures


def test_a_value_is_kept_for_its_time_to_live() -> None:
    clock, fetch = Clock(), Fetch()
    cache = MemoryCache(timer=clock)
    assert cache.get_or_fetch("a", fetch, 5.0) == 1
    clock.now += 4.9
    assert cache.get_or_fetch("a", fetch, 5.0) == 1
    clock.now += 0.2
    assert cache.get_or_fetch("a", fetch, 5.0) == 2


def test_each_key_has_its_own_time_to_live() -> None:
    clock, fetch = Clock(), Fetch()
    cache = MemoryCache(timer=clock)
    cache.get_or_fetch("short", fetch, 1.0)
    cache.get_or_fetch("long", fetch, 100.0)
    clock.now += 50
    assert cache.get_or_fetch("long", fetch, 100.0) == 2
    assert cache.get_or_fetch("short", fetch, 1.0) == 3


def test_none_and_empty_values_are_kept_too() -> None:
    cache = MemoryCache()
    assert cache.get_or_fetch("a", lambda: None, 5.0) is None
    assert cache.get_or_fetch("a", Fetch(), 5.0) is None


def test_the_number_of_entries_is_bounded() -> None:
    cache, fetch = MemoryCache(2), Fetch()
    for key in "abc":
        cache.get_or_fetch(key, fetch, 5.0)
    assert repr(cache) == "<MemoryCache 2 kept, 0 being fetched>"


def test_many_threads_share_one_fetch() -> None:
    cache, fetch = MemoryCache(), Fetch(held=True)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(cache.get_or_fetch, "a", fetch, 5.0)
        assert fetch.entered.wait(20)
        others = waiting(cache, "a", fetch, pool, 8)
        fetch.release.set()
        assert first.result(20) == 1
        assert [one.result(20) for one in others] == [1] * 8
    assert fetch.calls == 1


def test_an_error_reaches_all_waiters_and_is_not_kept() -> None:
    failing, cache = Fetch(held=True, error=ValueError("down")), MemoryCache()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(cache.get_or_fetch, "a", failing, 5.0)
        assert failing.entered.wait(20)
        asked: list[Future[int]] = []
        waiter = pool.submit(cache.get_or_fetch, "a", failing, 5.0)
        asked.append(waiter)
        failing.release.set()
        for one in (first, *asked):
            with pytest.raises(ValueError, match="down"):
                one.result(20)
    assert cache.get_or_fetch("a", Fetch(), 5.0) == 1


def test_an_interrupted_fetch_is_taken_over_by_a_waiter() -> None:
    """KeyboardInterrupt hits one thread; the others still get their value."""
    interrupted, cache = Fetch(held=True, error=KeyboardInterrupt()), MemoryCache()
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            cache.get_or_fetch("a", interrupted, 5.0)
        except KeyboardInterrupt as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert interrupted.entered.wait(20)
    with ThreadPoolExecutor(2) as pool:
        others = waiting(cache, "a", Fetch(), pool, 2)
        interrupted.release.set()
        assert [one.result(20) for one in others] == [1, 1]
    thread.join(20)
    assert len(raised) == 1


def test_what_is_fetched_while_it_is_invalidated_is_not_kept() -> None:
    """The caller that began before gets its value; nobody after the invalidation does."""
    cache, old, new = MemoryCache(), Fetch(held=True), Fetch()
    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(cache.get_or_fetch, "instances/list", lambda: -old(), 5.0)
        assert old.entered.wait(20)
        cache.invalidate("instances/")
        assert cache.get_or_fetch("instances/list", new, 5.0) == 1
        old.release.set()
        assert before.result(20) == -1
    assert cache.get_or_fetch("instances/list", new, 5.0) == 1
    assert new.calls == 1


def test_invalidation_is_by_prefix() -> None:
    cache, fetch = MemoryCache(), Fetch()
    cache.get_or_fetch("instances/1", fetch, 5.0)
    cache.get_or_fetch("user", fetch, 5.0)
    cache.invalidate("instances/")
    assert cache.get_or_fetch("user", fetch, 5.0) == 2
    assert cache.get_or_fetch("instances/1", fetch, 5.0) == 3


def test_no_cache_always_fetches() -> None:
    cache, fetch = NoCache(), Fetch()
    assert [cache.get_or_fetch("a", fetch, 5.0) for _ in range(2)] == [1, 2]
    cache.invalidate("")


def test_an_old_value_is_known_for_as_long_as_asked_and_whatever_was_invalidated() -> None:
    clock, fetch = Clock(), Fetch()
    cache = MemoryCache(stale_s=60.0, timer=clock)
    assert cache.last("a", 100.0) is None
    cache.get_or_fetch("a", fetch, 5.0)
    clock.now += 10.0
    cache.invalidate("a")
    assert cache.last("a", 10.0) == Kept(1, 10.0)
    assert cache.last("a", 9.0) is None
    clock.now += 55.0
    assert cache.last("a", 100.0) is None, "5 s to live and 60 s more are over"


def test_a_value_that_comes_with_an_age_is_kept_for_the_rest_of_its_time() -> None:
    clock = Clock()
    cache = MemoryCache(timer=clock)
    assert cache.renew("a", lambda: Kept("old", 3.0), 5.0) == "old"
    assert cache.fresh("a") == Kept("old", 3.0)
    clock.now += 2.1
    assert cache.fresh("a") is None
    assert cache.renew("a", lambda: Kept("too old", 9.0), 5.0) == "too old"
    assert cache.fresh("a") is None


def test_to_renew_is_not_answered_from_what_is_kept() -> None:
    cache = MemoryCache()
    cache.get_or_fetch("a", lambda: 1, 5.0)
    assert cache.renew("a", lambda: Kept(2, 0.0), 5.0) == 2
    assert cache.get_or_fetch("a", lambda: 3, 5.0) == 2


def test_no_cache_knows_no_old_value_either() -> None:
    cache = NoCache()
    cache.get_or_fetch("a", lambda: 1, 5.0)
    assert cache.last("a", 100.0) is None
    cache.close()
