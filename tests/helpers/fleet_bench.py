"""A fleet on a bench: instances in memory, and an account that is a list."""

import asyncio
import threading
from typing import Any, cast

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine
from vastproxy.services.backends.backend import Backend
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.events import FleetEvent
from vastproxy.services.fleet import Fleet
from vastproxy.services.routing.policy import Hint
from vastproxy.settings import Settings
from vastproxy.settings.admission import QueueSettings
from vastproxy.settings.model import FleetSettings, TunnelSettings
from vastproxy.settings.routing import RoutingSettings
from vastproxy.vastai import Instance, InstanceList, PriceRise, User, VastClient, VastRejected


class Account:
    """The calls that a fleet makes, answered from attributes. Called from threads, as the client is."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.skipped = 0
        self.labels: list[tuple[int, str]] = []
        self.list_error: Exception | None = None
        self.label_error: Exception | None = None
        self.label_refused: int | None = None
        self.label_hang: threading.Event | None = None
        self.lists = 0
        self.asked_fresh: list[bool] = []
        self.old: list[Instance] | None = None
        """What another proxy has kept."""
        self.user = User(id=1)
        self.rises: tuple[PriceRise, ...] = ()
        self.closed = False
        self.destroyed: list[int] = []
        self.destroy_error: Exception | None = None

    def destroy_instance(self, instance_id: int) -> None:
        if self.destroy_error is not None:
            raise self.destroy_error
        self.destroyed.append(instance_id)

    def current_user(self) -> User:
        return self.user

    def price_rises(self) -> tuple[PriceRise, ...]:
        return self.rises

    def list_instances(self, *, fresh: bool = False, stale_s: float = 0.0) -> InstanceList:
        self.lists += 1
        self.asked_fresh.append(fresh)
        if self.list_error is not None:
            if stale_s and self.old is not None:
                return InstanceList(self.old, age_s=60.0, instead_of=self.list_error)
            raise self.list_error
        return InstanceList(self.instances, skipped=self.skipped)

    def label_instance(self, instance_id: int, label: str) -> None:
        if self.label_hang is not None:
            self.label_hang.wait(20)
        if instance_id == self.label_refused:
            raise VastRejected("not this one", "invalid_args")
        if self.label_error is not None:
            raise self.label_error
        self.labels.append((instance_id, label))

    def close(self) -> None:
        self.closed = True


class Taken(Claim):
    """A request that has its place at once."""

    @property
    def backend(self) -> Backend:
        assert self.lease is not None
        return self.lease.backend


class FleetBench:
    def __init__(self, **fleet: Any) -> None:
        self.account = Account()
        self.engine = MemoryEngine()
        settings = Settings(
            fleet=FleetSettings(**fleet),
            tunnels=TunnelSettings(paths="one"),
            routing=RoutingSettings(policy="round_robin"),
            queue=QueueSettings(max_waiting=0),
        )
        self.fleet = Fleet(settings, cast(VastClient, self.account), self.engine)
        self.events: list[FleetEvent] = []
        self.happened = asyncio.Event()
        self.fleet.events.subscribe(self._listen)

    def _listen(self, event: FleetEvent) -> None:
        self.events.append(event)
        self.happened.set()

    async def until(self, event: FleetEvent) -> None:
        async with asyncio.timeout(30):
            while event not in self.events:
                self.happened.clear()
                await self.happened.wait()

    async def serve(self, *ids: int) -> None:
        """These instances, found and healthy."""
        self.account.instances = [make_instance(id=id) for id in ids]
        await self.fleet.sync()
        for id in ids:
            await self.fleet.tend(id)

    def lease(self, *, pin: int | None = None) -> Taken:
        """A place for a request, at once. Raises what the dispatcher raises."""
        claim = Taken()
        claim.hint = Hint(pin=pin)
        assert self.fleet.dispatcher.ask(claim) is not None
        return claim

    def release(self, claim: Taken) -> None:
        self.fleet.dispatcher.finish(claim)

    def states(self) -> dict[int, str]:
        return {backend.id: backend.state for backend in self.fleet.snapshot().backends}
