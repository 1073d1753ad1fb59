"""A cache shared through a real Redis: one asks for all, and whatever becomes of Redis, nobody waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builders import make_row
from tests.helpers.redis_server import RedisServer
from tests.helpers.vastapi import KEY, Fault, VastApi
from vastproxy.services.cache import make_cache
from vastproxy.services.cache_redis import PAUSE_S, RedisStore, StoreUnavailable
from vastproxy.services.cache_shared import SharedCache
from vastproxy.services.sealing import Seal
from vastproxy.settings.cache import CacheSettings
from vastproxy.settings.model import RetrySettings, VastCacheSettings
from vastproxy.vastai import MemoryCache, VastClient, VastConfig, VastUnavailable

#: For a Redis that answers: longer than a busy machine makes it wait.
PATIENT_S = 10.0
#: For one that is frozen for a while.
TIMEOUT_S = 1.0
#: A bounded number of these timeouts, and what a busy machine adds: far less than one for each question.
PROMPTLY_S = 10.0


class Clock:
    """The real one, which can be put forward; one that stands still goes on only so."""

    def __init__(self, *, is_still: bool) -> None:
        self.ahead_s = 0.0
        self._began = time.monotonic() if is_still else None

    def __call__(self) -> float:
        return (time.monotonic() if self._began is None else self._began) + self.ahead_s


class Proxy:
    """What one proxy has of the shared cache."""

    def __init__(
        self,
        url: str,
        *,
        key: str = KEY,
        lock_s: float = 3.0,
        wait_s: float = 20.0,
        timeout_s: float = PATIENT_S,
        is_still: bool = False,
    ) -> None:
        """`is_still`: the pauses in which Redis is left alone end with `forgive`, however long things take."""
        self.clock = Clock(is_still=is_still)
        self.store = RedisStore(url, Seal(key, "api"), timeout_s=timeout_s, clock=self.clock)
        memory = MemoryCache(stale_s=60.0, timer=self.clock)
        self.cache = SharedCache(
            self.store, memory, stale_s=60.0, lock_s=lock_s, wait_s=wait_s, clock=self.clock
        )

    def get(self, key: str, fetch: Callable[[], Any], ttl_s: float = 30.0) -> Any:
        return self.cache.get_or_fetch(key, fetch, ttl_s)

    def forgive(self) -> None:
        """The longest time for which Redis is left alone has passed."""
        self.clock.ahead_s += 60.0


class Fetch:
    """Counts its calls; the value names whose it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return f"{self.name}{self.calls}"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def make_proxy(redis: RedisServer) -> Iterator[Callable[..., Proxy]]:
    made: list[Proxy] = []

    def make(**options: Any) -> Proxy:
        made.append(Proxy(redis.url, **options))
        return made[-1]

    yield make
    for proxy in made:
        proxy.cache.close()


@pytest.fixture
def pair(make_proxy: Callable[..., Proxy]) -> tuple[Proxy, Proxy]:
    return make_proxy(), make_proxy()


@pytest.fixture
def hasty(make_proxy: Callable[..., Proxy]) -> tuple[Proxy, Proxy]:
    """Two that do not wait long for a Redis that is frozen."""
    first, second = (make_proxy(timeout_s=TIMEOUT_S, is_still=True) for _ in range(2))
    return first, second


def test_what_one_has_fetched_the_other_reads(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    fetch = Fetch("b")
    value = {"a": [1, 2.5, None, True, "ü", "\ud800"], "b": {}}
    assert first.get("list", lambda: value) == value
    assert second.get("list", fetch) == value
    assert fetch.calls == 0


def test_none_is_a_value_too(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    first.get("list", lambda: None)
    assert second.get("list", Fetch("b")) is None


def test_what_is_no_json_stays_with_who_fetched_it(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    assert first.get("list", lambda: {1, 2}) == {1, 2}
    assert second.get("list", Fetch("b")) == "b1"


def test_each_decides_how_old_an_answer_may_be(pair: tuple[Proxy, Proxy]) -> None:
    """A value is not younger for having been read from Redis."""
    first, second = pair
    first.get("list", Fetch("a"), 30.0)
    assert second.get("list", Fetch("b"), 0.0) == "b1"
    assert first.get("list", Fetch("c"), 30.0) == "b1"


def test_many_threads_of_two_processes_share_one_fetch(pair: tuple[Proxy, Proxy]) -> None:
    entered, release = threading.Event(), threading.Event()
    calls = []

    def fetch() -> str:
        calls.append(1)
        entered.set()
        assert release.wait(20)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(pair[number % 2].get, "list", fetch) for number in range(8)]
        assert entered.wait(20)
        release.set()
        assert [one.result(20) for one in asked] == ["value"] * 8
    assert len(calls) == 1


def test_an_error_is_not_kept_and_the_next_one_fetches(pair: tuple[Proxy, Proxy]) -> None:
    def fail() -> None:
        raise ValueError("down")

    with pytest.raises(ValueError, match="down"):
        pair[0].get("list", fail)
    assert pair[1].get("list", Fetch("b")) == "b1"


class Held:
    """A fetch that goes on until it is released."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.release.wait(20)
        return "held"


def test_a_lock_lives_for_as_long_as_its_fetch(make_proxy: Callable[..., Proxy]) -> None:
    """A long fetch is waited for, although the lock of a process that has died ends soon."""
    slow, other, held, fetch = make_proxy(lock_s=2.0), make_proxy(), Held(), Fetch("b")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow.get, "list", held)
        assert held.entered.wait(20)
        second = pool.submit(other.get, "list", fetch)
        with pytest.raises(TimeoutError):
            second.result(3.0)
        held.release.set()
        assert (first.result(20), second.result(20)) == ("held", "held")
    assert fetch.calls == 0


def test_who_died_while_fetching_is_not_waited_for(pair: tuple[Proxy, Proxy]) -> None:
    dead, other = pair
    assert dead.store.claim("list", 0.2).mine
    assert other.get("list", Fetch("b")) == "b1"


def test_who_fetches_for_ever_is_not_waited_for(make_proxy: Callable[..., Proxy]) -> None:
    slow, other, held = make_proxy(), make_proxy(wait_s=0.2), Held()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.get, "list", held)
        assert held.entered.wait(20)
        assert other.get("list", Fetch("b")) == "b1"
        held.release.set()
        assert first.result(20) == "held"


def test_what_one_invalidates_nobody_goes_on_with(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    first.get("instances/list", Fetch("a"))
    first.get("user", Fetch("a"))
    second.cache.invalidate("instances/")
    fetch = Fetch("b")
    assert first.get("instances/list", fetch) == "b1"
    assert first.get("user", fetch) == "a1"
    assert second.get("instances/list", fetch) == "b1"


def test_what_is_fetched_while_another_process_invalidates_it_is_not_kept(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair

    def fetch_meanwhile() -> str:
        second.cache.invalidate("instances/")
        return "before"

    assert first.get("instances/list", fetch_meanwhile) == "before"
    assert second.get("instances/list", Fetch("b")) == "b1"


def test_an_old_value_is_there_for_who_cannot_fetch_and_only_for_so_long(pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    first.get("list", Fetch("a"), 30.0)
    second.cache.invalidate("")
    kept = second.cache.last("list", 60.0)
    assert kept is not None
    assert kept.value == "a1"
    assert 0 <= kept.age_s < 20
    assert second.cache.last("list", -1.0) is None
    assert second.cache.last("user", 60.0) is None


@pytest.mark.parametrize("happens", ["freeze", "kill"])
def test_a_redis_that_does_not_answer_is_left_alone(
    redis: RedisServer, hasty: tuple[Proxy, Proxy], happens: str
) -> None:
    """The first question waits for it once, those after it not at all; each process has its own memory meanwhile."""
    proxy, fetch = hasty[0], Fetch("a")
    assert proxy.get("list", fetch) == "a1"
    getattr(redis, happens)()
    began = time.monotonic()
    assert proxy.get("list", fetch) == "a1", "what it has in memory is fresh"
    proxy.cache.invalidate("list")
    assert proxy.get("list", fetch) == "a2"
    assert [proxy.get("list", fetch) for _ in range(50)] == ["a2"] * 50
    assert time.monotonic() - began < PROMPTLY_S
    with pytest.raises(StoreUnavailable, match="left alone"):
        proxy.store.read("list")


def test_a_redis_that_freezes_during_a_fetch_costs_nobody_the_value(
    redis: RedisServer, make_proxy: Callable[..., Proxy]
) -> None:
    """Nor does anything of the fetch go on behind its back."""
    proxy = make_proxy(timeout_s=TIMEOUT_S, is_still=True, lock_s=0.1)

    def fetch() -> str:
        redis.freeze()
        threading.Event().wait(0.2)  # the lock is held on to meanwhile
        return "value"

    began = time.monotonic()
    assert proxy.get("list", fetch) == "value"
    assert time.monotonic() - began < PROMPTLY_S
    assert not [thread for thread in threading.enumerate() if thread.name == "cache-lock"]
    assert proxy.get("list", Fetch("b")) == "value"


def test_a_redis_that_comes_back_is_used_again_and_knows_what_was_invalidated(
    redis: RedisServer, hasty: tuple[Proxy, Proxy]
) -> None:
    """An invalidation that it could not be told in time still comes before the next answer."""
    first, second = hasty
    first.get("instances/list", Fetch("a"))
    redis.freeze()
    first.cache.invalidate("instances/")
    assert first.get("instances/list", Fetch("b")) == "b1"
    redis.thaw()
    first.forgive()
    assert first.get("instances/list", Fetch("c")) == "c1", "not a1, which Redis still has"
    assert second.get("instances/list", Fetch("d")) == "c1"


def test_more_invalidations_than_are_remembered_make_everything_invalid(
    redis: RedisServer, hasty: tuple[Proxy, Proxy]
) -> None:
    first, second = hasty
    first.get("user", Fetch("a"))
    redis.freeze()
    for number in range(100):
        first.cache.invalidate(f"instances/{number}")
    redis.thaw()
    first.forgive()
    assert second.get("user", Fetch("b")) == "a1"
    assert first.get("user", Fetch("c")) == "c1"
    assert second.get("user", Fetch("b")) == "c1"


def test_a_restarted_redis_is_empty_and_used_at_once(redis: RedisServer, pair: tuple[Proxy, Proxy]) -> None:
    first, second = pair
    first.get("list", Fetch("a"))
    redis.kill()
    redis.start()
    assert second.get("list", Fetch("b")) == "b1"
    assert first.get("list", Fetch("c")) == "b1"


def test_a_full_redis_is_as_good_as_none(redis: RedisServer, hasty: tuple[Proxy, Proxy]) -> None:
    """It still answers questions, but takes nothing: neither values nor locks."""
    proxy, other = hasty
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.command("CONFIG", "SET", "maxmemory", "1")
    assert redis.command("SET", "x", "y").startswith(b"-OOM")
    fetch = Fetch("a")
    began = time.monotonic()
    assert [proxy.get("list", fetch) for _ in range(20)] == ["a1"] * 20
    assert other.get("list", Fetch("b")) == "b1"
    proxy.forgive()
    assert proxy.get("list", fetch) == "a2", "its own value is over"
    with pytest.raises(StoreUnavailable, match="left alone"):
        proxy.store.read("list")
    assert time.monotonic() - began < PROMPTLY_S
    redis.command("CONFIG", "SET", "maxmemory", "0")
    proxy.forgive()
    other.forgive()
    assert proxy.get("list", fetch) == "a3"
    assert other.get("list", Fetch("b")) == "a3"


def test_a_redis_that_wants_a_password_is_as_good_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the one that it was sent is in no log."""
    with RedisServer(tmp_path) as server:
        server.command("CONFIG", "SET", "requirepass", "right-s3cret")
        proxy = Proxy(f"unix://user:wrong-s3cret@{server.socket_path}")
        assert proxy.get("list", Fetch("a")) == "a1"
        proxy.cache.close()
    [record] = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "cannot be used, going on with our own memory" in record.getMessage()
    assert "s3cret" not in caplog.text + repr(proxy.store) + repr(proxy.cache)


@pytest.mark.parametrize(
    "spoil",
    [
        ("SET", b"garbage \xff\x00"),
        ("SET", b""),
        ("SET", b"[" * 200_000),
        ("RPUSH", b"of another type"),
    ],
    ids=["bytes", "empty", "large", "type"],
)
def test_garbage_in_a_key_is_nothing_and_is_written_over(
    redis: RedisServer, pair: tuple[Proxy, Proxy], spoil: tuple[str, bytes]
) -> None:
    first, second = pair
    first.get("list", Fetch("a"))
    [key] = [name for name in redis.names() if ":value:" in name]
    redis.command("DEL", key)
    redis.command(spoil[0], key, spoil[1])
    redis.command("PEXPIRE", key, "30000")
    assert second.get("list", Fetch("b")) == "b1"
    assert first.get("list", Fetch("c")) == "b1"


@pytest.mark.parametrize("name", ["valid", "generation"])
def test_garbage_in_the_keys_around_a_value_stops_nobody_and_goes_away(
    redis: RedisServer, pair: tuple[Proxy, Proxy], name: str
) -> None:
    first, second = pair
    first.get("list", Fetch("a"))
    spoilt = first.store._prefix + name
    redis.command("DEL", spoilt)
    redis.command("HSET", spoilt, "x", "y")
    fetch = Fetch("b")
    assert second.get("list", fetch, 0.0) == "b1"
    second.forgive()
    second.get("list", fetch)
    assert first.get("list", Fetch("c")) == f"b{fetch.calls}"


def test_a_lock_that_nobody_would_ever_take_away_is_taken_away(
    redis: RedisServer, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy()
    redis.command("SET", proxy.store._prefix + "lock:list", "x")
    assert proxy.get("list", Fetch("a")) == "a1"
    assert proxy.store.claim("list", 5.0).mine


def test_another_account_sees_nothing_and_a_value_cannot_be_moved(
    redis: RedisServer, make_proxy: Callable[..., Proxy]
) -> None:
    first, second, stranger = make_proxy(), make_proxy(), make_proxy(key="another key")
    first.get("list", lambda: {"jupyter_token": "t0ken"})
    assert stranger.get("list", Fetch("s")) == "s1"
    value = next(
        name for name in redis.names() if name.endswith(":value:list") and first.store._prefix in name
    )
    redis.command("COPY", value, value.replace(":list", ":user"))
    redis.command("SADD", first.store._valid, "user")
    assert second.get("user", Fetch("b")) == "b1"


def test_neither_the_key_nor_what_was_answered_can_be_read_in_redis(
    redis: RedisServer, make_proxy: Callable[..., Proxy]
) -> None:
    make_proxy().get("list", lambda: {"jupyter_token": "t0ken-t0ken-t0ken"})
    everything = "".join(redis.names()).encode()
    for name in redis.names():
        everything += redis.command("DUMP", name)
    assert b":value:list" in everything
    assert b"t0ken" not in everything
    assert KEY.encode() not in everything


def test_nothing_stays_in_redis_for_ever(redis: RedisServer, make_proxy: Callable[..., Proxy]) -> None:
    proxy = make_proxy()
    proxy.get("list", Fetch("a"))
    proxy.cache.invalidate("list")
    proxy.get("list", Fetch("a"))
    names = redis.names()
    assert len(names) == 3
    for name in names:
        assert not redis.command("PTTL", name).startswith(b":-"), name


# --- with the client ------------------------------------------------------------------------------------


def make_client(api: VastApi, redis: RedisServer, *, timeout_s: float = 5.0) -> VastClient:
    cached = VastCacheSettings(ttl_s=30.0)
    config = VastConfig(
        api_key=KEY,
        url=api.url,
        cache=cached,
        min_interval_scale=0.0,
        retries=RetrySettings(attempts=1),
    )
    shared = CacheSettings.model_validate({"backend": "redis", "url": "env:REDIS", "timeout_s": timeout_s})
    cache = make_cache(cached, shared, vast=config, environ={"REDIS": redis.url})
    return VastClient(config, cache=cache)


def test_two_proxies_that_poll_at_once_make_one_request(redis: RedisServer) -> None:
    with VastApi() as api:
        api.set_instances([make_row(id=1), make_row(id=2)])
        with (
            make_client(api, redis) as first,
            make_client(api, redis) as second,
            ThreadPoolExecutor(4) as pool,
        ):
            asked = [pool.submit(client.list_instances) for client in (first, second) * 2]
            assert [[one.id for one in each.result(20)] for each in asked] == [[1, 2]] * 4
            assert len(api.lists) == 1
            first.label_instance(1, "proxied")
            assert [one.label for one in second.list_instances()] == ["proxied", ""]
            assert len(api.lists) == 2
            second.list_instances(fresh=True)
            assert len(api.lists) == 3


def test_a_proxy_that_starts_while_vast_ai_is_away_begins_with_the_last_list(redis: RedisServer) -> None:
    """It is told so, and how old the list is; a key that is refused is another matter."""
    with VastApi() as api, make_client(api, redis) as old:
        api.set_instances([make_row(id=1)])
        old.list_instances()
        api.faults.always(Fault.BAD_GATEWAY_HTML)
        with pytest.raises(VastUnavailable):
            old.label_instance(1, "proxied")
        with make_client(api, redis) as new:
            listed = new.list_instances(stale_s=60.0)
            assert [one.id for one in listed] == [1]
            assert isinstance(listed.instead_of, VastUnavailable)
            assert 0 <= listed.age_s < 30
            with pytest.raises(VastUnavailable):
                new.list_instances()


def test_a_frozen_redis_does_not_hold_up_polls(redis: RedisServer) -> None:
    with VastApi() as api, make_client(api, redis, timeout_s=TIMEOUT_S) as client:
        api.set_instances([make_row(id=1)])
        client.list_instances()
        redis.freeze()
        client.list_instances()
        took_s: list[float] = []
        while len(took_s) < 5 and min(took_s, default=PAUSE_S) >= PAUSE_S:
            began = time.monotonic()
            assert [one.id for one in client.list_instances(fresh=True)] == [1]
            took_s.append(time.monotonic() - began)
        assert min(took_s) < PAUSE_S
