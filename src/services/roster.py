"""Who is served: one keeper for each instance that the account shows and the settings let in.

Knows nothing of requests.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

from vastproxy.services.backends.backend import Backend, Watcher
from vastproxy.services.backends.keeper import Keeper
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.state import Event
from vastproxy.services.events import AccountRead, BackendAdded, BackendRemoved, FleetEvent
from vastproxy.services.sync import Add, Known, Observation, Remove, SetLabel, Update, plan, plan_labels
from vastproxy.vastai import Instance


class Roster:
    """The keepers, made and seen off as the account's lists say. Iterates over those that are not on their way out."""

    def __init__(
        self,
        tools: KeeperTools,
        *,
        engine_token: str | None,
        watch: Watcher,
        publish: Callable[[FleetEvent], None],
    ) -> None:
        """`engine_token`: bearer for engines instead of each instance's own. `watch` hears of all backends' events."""
        self._tools = tools
        self._engine_token = engine_token
        self._watch = watch
        self._publish = publish
        self._keepers: dict[int, Keeper] = {}
        self._leaving: set[Keeper] = set()
        self._lists = 0
        self._counts: AccountRead | None = None
        self._instances: dict[int, Instance] = {}
        self._destroyed: set[int] = set()
        """Ids that lists may still show for a while, though the instances are gone for good."""
        self.backends: dict[int, Backend] = {}
        """By instance id."""

    def __len__(self) -> int:
        return len(self._keepers)

    def __iter__(self) -> Iterator[Keeper]:
        return iter(self._keepers.values())

    def __getitem__(self, instance_id: int) -> Keeper:
        """Raises KeyError."""
        return self._keepers[instance_id]

    def get(self, instance_id: int) -> Keeper | None:
        """The keeper of an instance that is served."""
        return self._keepers.get(instance_id)

    @property
    def ids(self) -> tuple[int, ...]:
        """Of all instances that are served, in ascending order."""
        return tuple(sorted(self._keepers))

    @property
    def in_flight(self) -> int:
        """Leases that have not been given back, also those of instances on their way out."""
        return sum(keeper.backend.in_flight for keeper in (*self._keepers.values(), *self._leaving))

    def apply(self, instances: tuple[Instance, ...], *, complete: bool) -> None:
        """Make the keepers match a list. In one that is not `complete`, absence says nothing."""
        if self._destroyed:
            if complete:
                self._destroyed &= {instance.id for instance in instances}
            instances = tuple(each for each in instances if each.id not in self._destroyed)
        self._lists += complete
        self._instances = {instance.id: instance for instance in instances}
        known = {
            id: Known(keeper.backend.instance, keeper.backend.last_seen)
            for id, keeper in self._keepers.items()
        }
        for action in plan(Observation(self._lists, instances), known, self._tools.settings.fleet):
            match action:
                case Add(instance):
                    self._add(instance)
                case Update(instance):
                    keeper = self._keepers[instance.id]
                    keeper.backend.last_seen = self._lists
                    keeper.update(instance)
                case Remove(instance_id, reason):
                    self._remove(instance_id, reason)
        counts = AccountRead(len(instances), len(self._keepers))
        if counts != self._counts:
            self._counts = counts
            self._publish(counts)

    def destroyed(self, instance_id: int) -> None:
        """The account has no such instance any more, whatever the next lists say."""
        self._destroyed.add(instance_id)
        self._instances.pop(instance_id, None)
        if instance_id in self._keepers:
            self._remove(instance_id, "it was destroyed")

    async def aclose(self) -> None:
        """Close every connection of every instance."""
        await asyncio.gather(*(keeper.aclose() for keeper in (*self._keepers.values(), *self._leaving)))

    def wanted_labels(self) -> list[SetLabel]:
        """What is to be written on the account so that its labels say who is served."""
        healthy = [keeper.backend.id for keeper in self if keeper.backend.available]
        return plan_labels(self._instances.values(), healthy, self._tools.settings.fleet)

    def no_labels(self) -> list[SetLabel]:
        """What is to be written so that no label of ours is left."""
        return plan_labels(self._instances.values(), [], self._tools.settings.fleet)

    def label_written(self, write: SetLabel) -> None:
        """The account has this label now, before a list says so."""
        if (instance := self._instances.get(write.instance_id)) is not None:
            self._instances[write.instance_id] = replace(instance, label=write.label)
        if (keeper := self._keepers.get(write.instance_id)) is not None:
            keeper.backend.instance = replace(keeper.backend.instance, label=write.label)

    def _add(self, instance: Instance) -> None:
        backend = Backend(
            instance,
            token=self._engine_token or instance.jupyter_token,
            now=self._tools.clock(),
            last_seen=self._lists,
            on_event=self._watch,
        )
        self._keepers[instance.id] = Keeper(backend, self._tools)
        self.backends[instance.id] = backend
        self._publish(BackendAdded(instance.id))

    def _remove(self, instance_id: int, reason: str) -> None:
        keeper = self._keepers.pop(instance_id)
        del self.backends[instance_id]
        self._leaving.add(keeper)
        keeper.backend.step(Event.VANISHED, self._tools.clock(), reason)
        self._publish(BackendRemoved(instance_id, reason))
        self._tools.tasks.spawn(self._see_off(keeper), name=f"remove/{instance_id}")

    async def _see_off(self, keeper: Keeper) -> None:
        try:
            await keeper.leave(grace_s=self._tools.settings.server.shutdown_grace_s)
        finally:
            self._leaving.discard(keeper)
