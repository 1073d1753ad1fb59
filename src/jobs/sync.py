"""Reads the account's instance list every `fleet.poll_interval_s`, a little jittered, and whenever asked to."""

import asyncio
import random

from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import every


class SyncJob:
    """The timer behind `Fleet.sync`."""

    def __init__(self, fleet: Fleet, *, rng: random.Random | None = None) -> None:
        self._fleet = fleet
        self._rng = rng
        self._wake = asyncio.Event()

    def poke(self) -> None:
        """Do not wait for the next time: something may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        fleet = self._fleet.settings.fleet
        await every(
            fleet.poll_interval_s, self._fleet.sync, jitter=fleet.poll_jitter, wake=self._wake, rng=self._rng
        )
