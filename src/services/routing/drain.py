"""How fast requests that wait are served, so that who is sent away can be told when to come back. Pure."""

import math

#: What happened this long ago counts 1/e of what happens now. Answers of a model take seconds to minutes.
MEMORY_S = 30.0
#: Time that must have been watched before a rate is believed.
_WATCHED_S = 1.0


class DrainRate:
    """Grants per second, counted only over the time in which somebody waited: an idle hour is no slow hour.

    Both the grants and the time are forgotten exponentially, so that the rate is right from the first seconds on and
    follows a fleet that grows, shrinks or has gone.
    """

    __slots__ = ("_at", "_grants", "_watched_s")

    def __init__(self) -> None:
        self._grants = 0.0
        self._watched_s = 0.0
        self._at: float | None = None

    def begin(self, now: float) -> None:
        """From now on somebody waits."""
        if self._at is None:
            self._at = now

    def end(self, now: float) -> None:
        """Nobody waits any more."""
        self._advance(now)
        self._at = None

    def granted(self, now: float) -> None:
        """One that waited is served."""
        self._advance(now)
        self._grants += 1.0

    def per_s(self, now: float) -> float | None:
        """Grants per second; None while too little has been seen. 0.0 is possible."""
        self._advance(now)
        return self._grants / self._watched_s if self._watched_s >= _WATCHED_S else None

    def _advance(self, now: float) -> None:
        if self._at is None or now <= self._at:
            return
        kept = math.exp((self._at - now) / MEMORY_S)
        self._grants *= kept
        self._watched_s = self._watched_s * kept + MEMORY_S * (1.0 - kept)
        self._at = now


def retry_after_s(ahead: int, per_s: float | None, *, unknown_s: int, max_s: int) -> int:
    """Whole seconds until `ahead` requests and one more are served: at least 1, at most `max_s`, and `unknown_s` where
    no rate is known."""
    if per_s is None:
        return unknown_s
    if per_s * max_s <= ahead + 1:
        return max_s
    return max(1, math.ceil((ahead + 1) / per_s))
