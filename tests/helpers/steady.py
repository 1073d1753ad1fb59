"""How long something took, without the time in which the machine let this process do nothing.

async with Steady() as steady:
    began = time.monotonic()
    ...
    assert await steady.took_s(began, ended) < 0.1

What the thread of the loop computes is counted, and what it waits for; that it was not let run is not. For upper
bounds: a timer that runs out while the machine stands still seems to have taken less than it did.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

_LOOK_EVERY_S = 0.005


class Steady:
    """Watches the running loop, which must be the one in which everything happens that is timed."""

    def __init__(self) -> None:
        self._stalls: list[tuple[float, float]] = []
        self._looked_at = self._cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._looked_at, self._cpu_s = time.monotonic(), time.thread_time()
        self._look_later()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def took_s(self, began: float, ended: float) -> float:
        """The time between two readings of the monotonic clock, the second of which is in the past."""
        while self._looked_at <= ended:
            await asyncio.sleep(_LOOK_EVERY_S)
        lost = (min(end, ended) - max(begin, began) for begin, end in self._stalls)
        return ended - began - sum(part for part in lost if part > 0)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        now, cpu_s = time.monotonic(), time.thread_time()
        stalled_s = now - self._looked_at - _LOOK_EVERY_S - (cpu_s - self._cpu_s)
        if stalled_s > 0:
            self._stalls.append((now - stalled_s, now))
        self._looked_at, self._cpu_s = now, cpu_s
        self._look_later()
