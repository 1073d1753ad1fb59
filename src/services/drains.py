"""Who is to get no new work, and by whose order: somebody's, or because the instance's contract is about to end."""

import time
from collections.abc import Callable

from vastproxy.services.backends.keeper import Keeper
from vastproxy.services.backends.state import Event, State


class Drains:
    """Gives and takes back the order. What runs ends in peace; then the instance is out.

    An order of a person's holds until it is taken back. One that a contract gave is taken back when the contract is
    longer again, and not given again for the same end once somebody has taken it back.
    """

    def __init__(
        self,
        *,
        ahead_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`ahead_s`: how long before a contract's end; 0 for never."""
        self._ahead_s = ahead_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._ending: dict[int, float] = {}
        """Instance -> the end of the contract for whose sake it is drained."""
        self._overruled: dict[int, float] = {}

    def drain(self, keeper: Keeper, why: str = "drained") -> None:
        """No new requests for it."""
        self._ending.pop(keeper.backend.id, None)
        keeper.backend.step(Event.DRAIN, self._clock(), why)

    def undrain(self, keeper: Keeper) -> None:
        """Take that back, whoever gave it: it serves again after the next good probe, which comes at once."""
        backend = keeper.backend
        self._ending.pop(backend.id, None)
        if (end := backend.instance.end_date) is not None and self._is_near(end):
            self._overruled[backend.id] = end
        if backend.state is State.DRAINING:
            backend.step(Event.UNDRAIN, self._clock(), "waiting for a probe")
            keeper.wake.set()

    def look(self, keeper: Keeper) -> None:
        """Does its contract end soon, or not any more?"""
        backend = keeper.backend
        end = backend.instance.end_date
        if backend.id in self._ending:
            if end is not None and end - self._wall_clock() > self._ahead_s:
                del self._ending[backend.id]
                self.undrain(keeper)
        elif end is not None and self._is_near(end) and self._may_drain(keeper, end):
            self.drain(keeper, f"its contract ends in {(end - self._wall_clock()) / 60:.0f} min")
            self._ending[backend.id] = end

    def forget(self, instance_id: int) -> None:
        """It is gone."""
        self._ending.pop(instance_id, None)
        self._overruled.pop(instance_id, None)

    def _may_drain(self, keeper: Keeper, end: float) -> bool:
        backend = keeper.backend
        is_open = backend.state is not State.DRAINING and not backend.leaving
        return is_open and self._overruled.get(backend.id) != end

    def _is_near(self, end: float) -> bool:
        """One that is over although the instance runs has been extended, or is wrong: it tells nothing."""
        return 0 < end - self._wall_clock() <= self._ahead_s
