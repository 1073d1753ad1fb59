"""What one key has used of its limits, and whether it may begin another request. Pure.

Requests and tokens of a minute are two buckets: each holds what a minute allows, fills evenly, and so lets no more
through in any time than that time's share and one bucket. A request takes its place in the first when it begins.
Tokens are known only at the end: a request may begin while anything is left, and its tokens are taken afterwards,
below nothing if need be, so that the average holds. What an engine says of its tokens is its own word: a bucket is
never in debt by more than `MAX_DEBT_MIN` minutes.

`now` in the arguments is in seconds and never goes back.
"""

import math
from dataclasses import dataclass
from typing import Literal

from vastproxy.services.access.records import KeyLimits

#: The longest that a false figure of an engine can lock a key out.
MAX_DEBT_MIN = 10.0
#: Told to who is over the limit of requests at the same time: when one of them ends nobody knows.
_CONCURRENT_RETRY_S = 1
#: Rounding of a moment must not refuse who comes exactly when told to.
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request may not begin now. To be answered with 429."""

    kind: Literal["requests", "tokens"]
    message: str
    retry_after_s: int
    """Whole seconds, at least 1."""

    status = 429
    code = "rate_limit_exceeded"


class Bucket:
    """Holds `per_min` units, is full at first, and fills again within a minute."""

    __slots__ = ("_at", "_left", "per_min")

    def __init__(self, per_min: int, now: float) -> None:
        self.per_min = per_min
        self._left = float(per_min)
        self._at = now

    def left(self, now: float) -> float:
        """What is in it; below 0 it is in debt."""
        if now > self._at:
            self._left = min(float(self.per_min), self._left + (now - self._at) * self.per_min / 60.0)
            self._at = now
        return self._left

    def take(self, units: float, now: float) -> None:
        """Take so many, whether or not they are in it."""
        self._left = max(self.left(now) - units, -MAX_DEBT_MIN * self.per_min)

    def wait_s(self, units: float, now: float) -> float:
        """How long until it holds so many."""
        return max(0.0, (units - self.left(now)) * 60.0 / self.per_min)

    def resize(self, per_min: int, now: float) -> None:
        """Another size: what was used of the old one stays used."""
        used = self.per_min - self.left(now)
        self.per_min = per_min
        self._left = max(per_min - used, -MAX_DEBT_MIN * per_min)


class Meter:
    """The books of one key with limits."""

    __slots__ = ("_requests", "_tokens", "in_flight", "limits")

    def __init__(self, limits: KeyLimits, now: float) -> None:
        self.limits = limits
        self.in_flight = 0
        """Requests that have begun and not ended."""
        self._requests = _bucket(limits.requests_per_min, now)
        self._tokens = _bucket(limits.tokens_per_min, now)

    def adopt(self, limits: KeyLimits, now: float) -> None:
        """The limits are others from now on. What is running and what was used go on counting."""
        if limits == self.limits:
            return
        self.limits = limits
        self._requests = _resized(self._requests, limits.requests_per_min, now)
        self._tokens = _resized(self._tokens, limits.tokens_per_min, now)

    def begin(self, now: float) -> Refusal | None:
        """Count a request that begins, or say why it may not. One that is refused costs nothing."""
        most = self.limits.concurrent
        if most is not None and self.in_flight >= most:
            return _refusal(
                "requests", f"has {most} requests running, which is its limit", _CONCURRENT_RETRY_S
            )
        requests, tokens = self._requests, self._tokens
        if requests is not None and requests.left(now) < 1 - _SLACK:
            return _refusal(
                "requests", f"is over {requests.per_min} requests per minute", requests.wait_s(1, now)
            )
        if tokens is not None and tokens.left(now) < 1 - _SLACK:
            return _refusal("tokens", f"is over {tokens.per_min} tokens per minute", tokens.wait_s(1, now))
        if requests is not None:
            requests.take(1, now)
        self.in_flight += 1
        return None

    def end(self, tokens: int, now: float) -> None:
        """A request that had begun is over, and has used so many tokens, prompt and answer together."""
        self.in_flight -= 1
        if self._tokens is not None and tokens > 0:
            self._tokens.take(tokens, now)

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """OpenAI's `x-ratelimit-*` (platform.openai.com/docs/guides/rate-limits, 2026): limit, what is left of it, and
        how long until all of it is there again."""
        lines: list[tuple[bytes, bytes]] = []
        for kind, bucket in ((b"requests", self._requests), (b"tokens", self._tokens)):
            if bucket is not None:
                left = max(0, math.floor(bucket.left(now) + _SLACK))
                lines += [
                    (b"x-ratelimit-limit-" + kind, b"%d" % bucket.per_min),
                    (b"x-ratelimit-remaining-" + kind, b"%d" % left),
                    (b"x-ratelimit-reset-" + kind, duration(bucket.wait_s(bucket.per_min, now))),
                ]
        return lines


class Visit:
    """One request's place in the books of its key, from its begin to its end. Made by `enter`."""

    __slots__ = ("_meter",)

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter

    @property
    def wants_tokens(self) -> bool:
        """Is it of use to know how many tokens the request takes?"""
        return self._meter is not None and self._meter.limits.tokens_per_min is not None

    def headers(self, now: float) -> list[tuple[bytes, bytes]]:
        """See `Meter.headers`."""
        return self._meter.headers(now) if self._meter is not None else []

    def end(self, now: float, tokens: int = 0) -> None:
        """The request is over. Once is enough; more often does nothing."""
        meter = self._meter
        if meter is not None:
            self._meter = None
            meter.end(tokens, now)


#: The visit of whoever has no limits.
UNMETERED = Visit(None)


def enter(meter: Meter | None, now: float) -> Visit | Refusal:
    """Begin a request: call `end` on the visit, whatever comes of it."""
    if meter is None:
        return UNMETERED
    return meter.begin(now) or Visit(meter)


def needs_meter(limits: KeyLimits) -> bool:
    """Is there anything to count?"""
    counted = (limits.requests_per_min, limits.concurrent, limits.tokens_per_min)
    return any(limit is not None for limit in counted)


def duration(seconds: float) -> bytes:
    """A duration as OpenAI writes it: `20ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000 - _SLACK)
    minutes, rest = divmod(math.ceil(seconds - _SLACK), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest


def _bucket(per_min: int | None, now: float) -> Bucket | None:
    return None if per_min is None else Bucket(per_min, now)


def _resized(bucket: Bucket | None, per_min: int | None, now: float) -> Bucket | None:
    if bucket is None or per_min is None:
        return _bucket(per_min, now)
    if bucket.per_min != per_min:
        bucket.resize(per_min, now)
    return bucket


def _refusal(kind: Literal["requests", "tokens"], what: str, wait_s: float) -> Refusal:
    retry_s = max(1, math.ceil(wait_s - _SLACK))
    return Refusal(kind, f"This API key {what}. Try again in {retry_s} s.", retry_s)
