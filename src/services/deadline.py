"""Limits that are moved often and met rarely: moving one costs an assignment, not a timer.

For a `Deadline`, a timer of the event loop is set at most once for many moves. When it fires too early – the deadline
has been moved in the meantime – it is set again for the rest. `Silence` does not even ask for the time when it is
broken: it looks now and then whether it was.
"""

import asyncio
from collections.abc import Callable

_NEVER = float("inf")
#: Times that a `Silence` looks within its limit.
_LOOKS = 8


def _nobody() -> None:
    """Who is called when there is nobody to call any more."""


class Deadline:
    """Calls `on_expired` once when `after` was not called again, and `clear` not at all, for that long."""

    __slots__ = ("_at", "_loop", "_on_expired", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._at = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _NEVER

    @property
    def is_set(self) -> bool:
        return self._at != _NEVER

    def after(self, seconds: float) -> None:
        """It expires this long from now, whatever it was before – unless it was closed."""
        self._at = at = self._loop.time() + seconds
        if at < self._timer_at:
            self._set_timer(at)

    def extend(self, seconds: float, *, at_most: float) -> None:
        """It expires so much later than it would have, and `at_most` from now – unless it was closed."""
        self._at = at = min(self._at + seconds, self._loop.time() + at_most)
        if at < self._timer_at:
            self._set_timer(at)

    def clear(self) -> None:
        """It does not expire."""
        self._at = _NEVER

    def close(self) -> None:
        """It will not be set again, nothing is left in the event loop, and nobody is referred to any more: who is
        called refers to the deadline, and only the garbage collector would find that out."""
        self._at = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = -_NEVER
        self._on_expired = _nobody

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)
        self._timer_at = at

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = _NEVER
        if self._at == _NEVER:
            return
        if self._at > self._loop.time():
            self._set_timer(self._at)
        else:
            self._expire()

    def _expire(self) -> None:
        self._at = _NEVER
        self._on_expired()


class Silence(Deadline):
    """Calls `on_expired` once when `heard` was not set to True for the limit; else up to an eighth of it later."""

    __slots__ = ("_looks", "_step_s", "heard")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        super().__init__(loop, on_expired)
        self._step_s = 0.0
        self._looks = 0
        self.heard = False
        """Set by whoever hears something."""

    def after(self, seconds: float) -> None:
        """From now on so long a silence is too long – unless it was closed."""
        self._step_s = step_s = seconds / _LOOKS
        self._looks = 0
        self.heard = False
        self._at = at = self._loop.time() + step_s
        if at < self._timer_at:
            self._set_timer(at)

    def _expire(self) -> None:
        if self.heard:
            self.heard = False
            self._looks = 0
        else:
            self._looks += 1
        if self._looks == _LOOKS:
            super()._expire()
        else:
            self._at = self._loop.time() + self._step_s
            self._set_timer(self._at)
