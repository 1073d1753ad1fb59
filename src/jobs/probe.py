"""Looks after every backend every `fleet.probe_interval_s`: one timer each, so that a slow one delays nobody."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

from vastproxy.services.events import BackendAdded, BackendRemoved, FleetEvent
from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import Tasks, every

#: Share by which the intervals vary, so that a thousand backends found by one list do not stay in step.
JITTER = 0.1


class ProbeJob:
    """The timers behind `Fleet.tend`. Follows the fleet's events: a backend is looked at as soon as it is added."""

    def __init__(self, fleet: Fleet, *, rng: random.Random | None = None) -> None:
        self._fleet = fleet
        self._rng = rng or random.Random()
        self._tasks = Tasks("probe")
        self._timers: dict[int, asyncio.Task[None]] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin with the backends there are."""
        self._unsubscribe = self._fleet.events.subscribe(self._on_event)
        for instance_id in self._fleet.backend_ids:
            self._begin(instance_id)

    async def aclose(self) -> None:
        """Stop looking; rounds under way are cancelled."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        await self._tasks.aclose()
        self._timers.clear()

    def _on_event(self, event: FleetEvent) -> None:
        if isinstance(event, BackendAdded):
            self._begin(event.instance_id)
        elif isinstance(event, BackendRemoved) and (timer := self._timers.pop(event.instance_id, None)):
            timer.cancel()

    def _begin(self, instance_id: int) -> None:
        self._timers[instance_id] = self._tasks.spawn(
            every(
                self._fleet.settings.fleet.probe_interval_s,
                partial(self._fleet.tend, instance_id),
                jitter=JITTER,
                wake=self._fleet.wake(instance_id),
                rng=self._rng,
            ),
            name=str(instance_id),
        )
