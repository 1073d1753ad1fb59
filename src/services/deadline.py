"""A deadline that is moved often and met rarely: moving it costs an assignment, not a timer.

A timer of the event loop is set at most once for many moves. When it fires too early – the deadline has been moved
in the meantime – it is set again for the rest.
"""

import asyncio
from collections.abc import Callable

_NEVER = float("inf")


class Deadline:
    """Calls `on_expired` once when `after` was not called again, and `clear` not at all, for that long."""

    __slots__ = ("_at", "_loop", "_on_expired", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expired: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        self._at = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._at != _NEVER

    def after(self, seconds: float) -> None:
        """It expires this long from now, whatever it was before."""
        self._at = at = self._loop.time() + seconds
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(at, self._fire)
        elif timer.when() > at:
            timer.cancel()
            self._timer = self._loop.call_at(at, self._fire)

    def clear(self) -> None:
        """It does not expire."""
        self._at = _NEVER

    def close(self) -> None:
        """As `clear`, and leave nothing in the event loop."""
        self._at = _NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._at == _NEVER:
            return
        if self._at > self._loop.time():
            self._timer = self._loop.call_at(self._at, self._fire)
            return
        self._at = _NEVER
        self._on_expired()
