"""Reads the account's instance list every `fleet.poll_interval_s`, a little jittered, and whenever asked to."""

import asyncio
import random

from vastproxy.services.events import FleetEvent, Heard
from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import every

#: Least time from a reading to one that was asked for: events come in swarms, and a rented machine may send them on
#: and on.
EARLY_GAP_S = 2.0


class SyncJob:
    """The timer behind `Fleet.sync`. Follows the fleet's events: what it hears of the account makes it read at once."""

    def __init__(self, fleet: Fleet, *, rng: random.Random | None = None) -> None:
        self._fleet = fleet
        self._rng = rng
        self._wake = asyncio.Event()
        self._asked = False
        self._read_at = float("-inf")

    def poke(self) -> None:
        """Do not wait for the next time: something may have changed."""
        self._asked = True
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        fleet = self._fleet.settings.fleet
        unsubscribe = self._fleet.events.subscribe(self._on_event)
        try:
            await every(
                fleet.poll_interval_s, self._read, jitter=fleet.poll_jitter, wake=self._wake, rng=self._rng
            )
        finally:
            unsubscribe()

    def _on_event(self, event: FleetEvent) -> None:
        if isinstance(event, Heard):
            self.poke()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        if self._asked:
            gap_s = min(EARLY_GAP_S, self._fleet.settings.fleet.poll_interval_s)
            await asyncio.sleep(max(0.0, self._read_at + gap_s - loop.time()))
        # Whoever has asked until now is answered by this reading.
        asked, self._asked = self._asked, False
        self._wake.clear()
        try:
            await self._fleet.sync(fresh=asked)
        finally:
            self._read_at = loop.time()
