"""Keeps the live figures up, twice a second."""

from vastproxy.services.live.live import TICK_S, Live
from vastproxy.services.tasks import every


class LiveJob:
    """The timer behind `Live.tick`."""

    def __init__(self, live: Live, *, interval_s: float = TICK_S) -> None:
        self._live = live
        self._interval_s = interval_s

    async def run(self) -> None:
        """Run until cancelled."""
        await every(self._interval_s, self._live.tick)
