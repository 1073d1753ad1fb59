"""Fills the ledger and writes it down, on timers."""

from vastproxy.services.events import FleetEvent, PathChanged
from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import Tasks, every

#: Time between two looks at who has work: what is idle is known to about this.
LOOK_EVERY_S = 1.0
#: Time between two writings: what a sudden end of the process may cost.
WRITE_EVERY_S = 5.0


class LedgerJob:
    """The timers behind `fleet.ledger`."""

    def __init__(
        self, fleet: Fleet, *, look_every_s: float = LOOK_EVERY_S, write_every_s: float = WRITE_EVERY_S
    ) -> None:
        self._fleet = fleet
        self._look_every_s, self._write_every_s = look_every_s, write_every_s
        self._tasks = Tasks("ledger")
        self._unsubscribe = fleet.events.subscribe(self._on_event)
        self._paths: dict[int, str] = {}

    def start(self) -> None:
        """Begin."""
        self._tasks.spawn(every(self._look_every_s, self._look), name="look")
        self._tasks.spawn(every(self._write_every_s, self._fleet.ledger.flush), name="write")

    async def aclose(self) -> None:
        """Write what is left; after the last request has ended."""
        self._unsubscribe()
        await self._tasks.aclose()
        await self._look()
        await self._fleet.ledger.aclose()

    async def _look(self) -> None:
        ledger, backends = self._fleet.ledger, self._fleet.dispatcher.targets.backends
        ledger.listed(self._fleet.account.instances, self._fleet.settings.fleet)
        await ledger.digest()
        ledger.tick(
            [id for id, backend in backends.items() if backend.in_flight],
            {id: backend.failures for id, backend in backends.items()},
        )

    def _on_event(self, event: FleetEvent) -> None:
        """A way is lost when it gives place to none, or the direct one to the relay."""
        if not isinstance(event, PathChanged):
            return
        before = self._paths.pop(event.instance_id, None)
        if event.path is not None:
            self._paths[event.instance_id] = event.path
        if before is not None and (event.path is None or (before, event.path) == ("direct", "relay")):
            self._fleet.ledger.book.way_lost(event.instance_id)
