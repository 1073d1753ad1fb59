"""Fills the ledger and writes it down, on timers."""

from vastproxy.services.backends.backend import Backend
from vastproxy.services.events import FleetEvent, MachineKnown, PathChanged
from vastproxy.services.fleet import Fleet
from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.tasks import Tasks, every

#: Time between two looks at who has work: what is idle is known to about this.
LOOK_EVERY_S = 1.0
#: Time between two writings: what a sudden end of the process may cost.
WRITE_EVERY_S = 5.0


class LedgerJob:
    """The timers behind `fleet.account.ledger`, and what that has to tell of the fleet and its backends."""

    def __init__(
        self, fleet: Fleet, *, look_every_s: float = LOOK_EVERY_S, write_every_s: float = WRITE_EVERY_S
    ) -> None:
        self._fleet = fleet
        self._ledger: Ledger = fleet.account.ledger
        self._look_every_s, self._write_every_s = look_every_s, write_every_s
        self._tasks = Tasks("ledger")
        self._unsubscribe = fleet.events.subscribe(self._on_event)
        self._paths: dict[int, str] = {}
        self._greeted: set[str] = set()
        fleet.live.total_parts.append(self._ledger.today)
        fleet.live.row_parts.append(self._machine_of)

    def start(self) -> None:
        """Begin."""
        self._tasks.spawn(every(self._look_every_s, self.look), name="look")
        self._tasks.spawn(every(self._write_every_s, self.write), name="write")

    async def aclose(self) -> None:
        """Write what is left; after the last request has ended."""
        self._unsubscribe()
        self._fleet.live.total_parts.remove(self._ledger.today)
        self._fleet.live.row_parts.remove(self._machine_of)
        await self._tasks.aclose()
        await self.look()
        await self._ledger.aclose()

    async def look(self) -> None:
        """Note what requests have left behind, and who has work."""
        backends = self._fleet.dispatcher.targets.backends
        self._ledger.listed(self._fleet.account.instances, self._fleet.settings.fleet)
        await self._ledger.digest()
        self._ledger.tick(
            [id for id, backend in backends.items() if backend.in_flight],
            {id: backend.failures for id, backend in backends.items()},
        )

    async def write(self) -> None:
        """Write it down, and greet machines that are no strangers."""
        if await self._ledger.flush():
            self._greet()
            if self._fleet.settings.routing.machine_scores:
                self._fleet.dispatcher.targets.rely(self._scores())

    def _greet(self) -> None:
        """Say of each instance that is served, once, whether its machine was rented before."""
        for instance in self._fleet.account.instances:
            identity = instance.identity
            if identity in self._greeted or instance.id not in self._fleet.live.backends:
                continue
            machine = self._ledger.machine(instance)
            if machine is None or not machine.knows(identity):
                continue  # until it is, one beside it would be taken for one before it
            self._greeted.add(identity)
            if machine.rented_before(identity):
                told = MachineKnown(instance.id, machine.machine_id, round(machine.hours, 1), machine.score)
                self._fleet.events.publish(told)

    def _scores(self) -> dict[int, float]:
        """By instance id; of those whose machines are known well enough."""
        known = ((one.id, self._ledger.machine(one)) for one in self._fleet.account.instances)
        return {
            id: machine.score for id, machine in known if machine is not None and machine.score is not None
        }

    def _machine_of(self, backend: Backend) -> dict[str, object]:
        return {"machine": self._ledger.machine_json(backend.instance)}

    def _on_event(self, event: FleetEvent) -> None:
        """A way is lost when it gives place to none, or the direct one to the relay."""
        if not isinstance(event, PathChanged):
            return
        before = self._paths.pop(event.instance_id, None)
        if event.path is not None:
            self._paths[event.instance_id] = event.path
        is_lost = event.path is None or (before, event.path) == ("direct", "relay")
        if before is not None and is_lost and event.instance_id in self._fleet.live.backends:
            self._ledger.book.way_lost(event.instance_id)
