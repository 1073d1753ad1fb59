"""Answers of vast.ai in a Redis: what is written there, in which keys, and how little of it may be waited for.

Of each account (`name` is derived from the API key and the address of the API) there are these keys:

    vastproxy:{name}:value:KEY    the answer: packed and sealed; lives as long as it may be of use
    vastproxy:{name}:lock:KEY     who is fetching it, by a random token; lives a few seconds
    vastproxy:{name}:valid        the KEYs that nobody has invalidated since they were written (a set)
    vastproxy:{name}:generation   a random word that changes with every invalidation

A value is written only while the generation is the one that was read before it was fetched. The braces keep the keys
in one slot of a cluster. Commands: those of Redis 6; Valkey and others that speak the protocol have them too.
"""

import contextlib
import logging
import secrets
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from vastproxy.errors import VastproxyError
from vastproxy.services.breaker import Breaker
from vastproxy.services.packing import pack, unpack
from vastproxy.services.sealing import Seal, Unsealable
from vastproxy.settings import SettingsError
from vastproxy.vastai.cache import Kept
from vastproxy.vastai.reply import one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A value that is larger, sealed, is nobody's but ours: 16 MiB hold some 30,000 instances.
MAX_VALUE_BYTES = 16 << 20
#: How long a Redis that failed is left alone, at first and at most.
PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
#: An exchange of several replies that takes this many timeouts counts as failed: each of them was just in time.
_SLOW_TIMEOUTS = 5
#: What the query of an address may say, beside `ssl_…`: timeouts, retries and encodings are ours.
_OPTIONS = frozenset({"client_name", "db", "password", "username"})
#: The set of valid keys and the generation outlive every value.
_LONG_MS = 48 * 3600 * 1000

_WRITE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 1
"""
_MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
_EXTEND = _MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_RELEASE = _MINE + "return redis.call('DEL', KEYS[1])"


class StoreUnavailable(VastproxyError):
    """Redis cannot be used now, or must not be asked for a while."""

    transient = True


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a key. `valid`: nobody has invalidated it."""

    kept: Kept
    valid: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """The state of the store before a fetch. `mine`: we are the ones to fetch, until `release` or the lock's end."""

    key: str
    token: str
    generation: bytes
    mine: bool


class RedisStore:
    """One account's part of a Redis. Blocks for at most a few `timeout_s`; safe to use from several threads.

    Every method but `close` raises StoreUnavailable, at once for some time after Redis has failed. Raises
    SettingsError for an address that is none.
    """

    def __init__(
        self, url: str, seal: Seal, *, timeout_s: float = 0.2, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = _connect(url, timeout_s)
        self._seal = seal
        self._slow_s = _SLOW_TIMEOUTS * timeout_s
        self._clock = clock
        self._prefix = f"vastproxy:{{{seal.name}}}:"
        self._valid, self._generation = self._prefix + "valid", self._prefix + "generation"
        self._breaker = Breaker(pause_s=PAUSE_S, max_pause_s=MAX_PAUSE_S, trial_s=2 * self._slow_s)
        self._lock = threading.Lock()
        self._secrets = (url, str(self._redis.connection_pool.connection_kwargs.get("password") or ""))
        self.where = _shown(url)

    def __repr__(self) -> str:
        return f"<RedisStore {self.where}>"

    def read(self, key: str) -> Found | None:
        """What is kept at `key`. Something that is not ours to read counts as nothing."""
        value = self._value(key)

        def ask(connection: "redis.Redis") -> list[Any]:
            pipeline = connection.pipeline(transaction=True)
            # Not GET: whatever somebody has put there, no more than this is loaded.
            pipeline.getrange(value, 0, MAX_VALUE_BYTES)
            pipeline.pttl(value)
            pipeline.sismember(self._valid, key)
            return list(pipeline.execute(raise_on_error=False))

        sealed, left_ms, valid = self._do(ask)
        if not isinstance(sealed, bytes) or not isinstance(left_ms, int) or not sealed or left_ms < 0:
            return None
        if (kept := self._unpack(key, sealed, left_ms)) is None:
            return None
        return Found(kept, valid=valid == 1)

    def claim(self, key: str, lock_s: float) -> Claim:
        """Ask to be the one who fetches `key`; the lock ends by itself after `lock_s`."""
        token, lock = secrets.token_hex(8), self._lock_of(key)

        def ask(connection: "redis.Redis") -> Claim:
            generation = connection.get(self._generation)
            mine = connection.set(lock, token, nx=True, px=_ms(lock_s))
            if not mine and connection.pttl(lock) == -1:
                connection.delete(lock)  # none of ours: those are made with their end
            return Claim(key, token, generation if isinstance(generation, bytes) else b"", bool(mine))

        return self._do(ask)

    def extend(self, claim: Claim, lock_s: float) -> None:
        """We are still fetching: the lock ends after `lock_s` from now."""
        lock = self._lock_of(claim.key)
        self._do(lambda connection: connection.eval(_EXTEND, 1, lock, claim.token, _ms(lock_s)))

    def release(self, claim: Claim) -> None:
        """We are not fetching any more. Never takes the lock from somebody who has got it since."""
        self._do(lambda connection: connection.eval(_RELEASE, 1, self._lock_of(claim.key), claim.token))

    def write(self, claim: Claim, value: Any, keep_s: float) -> bool:
        """Keep a value that was fetched after `claim`. False if it was invalidated meanwhile, or cannot be kept."""
        keep_ms = _ms(keep_s)
        sealed = self._pack(claim.key, value, keep_ms)
        if sealed is None:
            return False
        keys = (self._generation, self._value(claim.key), self._valid)
        args = (claim.generation, sealed, keep_ms, claim.key, _LONG_MS)
        return bool(self._do(lambda connection: connection.eval(_WRITE, len(keys), *keys, *args)))

    def forget(self, prefix: str) -> None:
        """Invalidate every key that begins with `prefix`, and whatever is being fetched now."""

        def ask(connection: "redis.Redis") -> None:
            # The generation first: who writes after it has fetched after it.
            connection.set(self._generation, secrets.token_hex(8), px=_LONG_MS)
            names = connection.smembers(self._valid)
            gone = [name for name in names if _text(name).startswith(prefix)]
            if gone:
                connection.srem(self._valid, *gone)

        self._do(ask)

    def close(self) -> None:
        """Close the connections; they are made again when they are needed."""
        self._redis.close()

    def _value(self, key: str) -> str:
        return self._prefix + "value:" + key

    def _lock_of(self, key: str) -> str:
        return self._prefix + "lock:" + key

    def _pack(self, key: str, value: Any, keep_ms: int) -> bytes | None:
        try:
            packed = pack(keep_ms, value)
        except (TypeError, ValueError, RecursionError):
            return None  # not JSON, so not for another process
        sealed = self._seal.close(packed, self._value(key))
        return sealed if len(sealed) <= MAX_VALUE_BYTES else None

    def _unpack(self, key: str, sealed: bytes, left_ms: int) -> Kept | None:
        try:
            keep_ms, value = unpack(self._seal.open(sealed, self._value(key)))
            return Kept(value, max(0, keep_ms - left_ms) / 1000)
        except (Unsealable, zlib.error, ValueError, RecursionError):
            logger.debug("%s has something at %r that is not of ours", self.where, self._value(key))
            return None

    def _do(self, ask: Callable[["redis.Redis"], T]) -> T:
        began = self._clock()
        with self._lock:
            if not self._breaker.may_try(began):
                raise StoreUnavailable(f"{self.where} is left alone for a while")
            trusted = self._breaker.is_closed
        try:
            if not trusted:  # it may answer and still take nothing: full, read-only, loading
                self._redis.set(self._prefix + "trial", "1", px=1000)
            result = ask(self._redis)
        except (redis.RedisError, OSError) as error:
            self._heal(error)
            self._failed(one_line(str(error), secrets=self._secrets, limit=120) or type(error).__name__)
            raise StoreUnavailable(f"{self.where} cannot be used now") from error
        if (took_s := self._clock() - began) > self._slow_s:
            self._failed(f"it took {took_s:.1f} s to answer")
        else:
            self._worked()
        return result

    def _heal(self, error: Exception) -> None:
        """Something in our keys is none of ours and would be in the way for ever."""
        if isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error):
            with contextlib.suppress(redis.RedisError, OSError):
                self._redis.delete(self._valid, self._generation)

    def _failed(self, why: str) -> None:
        with self._lock:
            news = self._breaker.failed(self._clock())
        level = logging.WARNING if news else logging.DEBUG
        logger.log(level, "the cache at %s cannot be used, going on with our own memory: %s", self.where, why)

    def _worked(self) -> None:
        with self._lock:
            news = self._breaker.worked()
        if news:
            logger.info("the cache at %s can be used again", self.where)


def _connect(url: str, timeout_s: float) -> "redis.Redis":
    try:
        named = {name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
        if not all(name in _OPTIONS or name.startswith("ssl_") for name in named):
            raise ValueError("an option that would change what is ours to decide")
        made = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # The library would try three times, with pauses.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # Only when a connection is made are the options looked at; nothing is connected by that.
        made.connection_pool.make_connection()
        return made
    except (TypeError, ValueError, redis.RedisError):
        raise SettingsError(
            "cache.url: expected redis://host:6379/0, rediss://host:6379/0 or unix:///path"
        ) from None


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _shown(url: str) -> str:
    """The address without user name and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
