"""The attempts to connect to one instance that are under way."""

import asyncio
from collections.abc import Callable
from functools import partial

from vastproxy.services.errors import TunnelError
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Path, Tunnel, TunnelEngine, TunnelTarget
from vastproxy.services.tunnels.dial import dial

#: Paths of which one is wanted.
Race = tuple[Path, ...]
#: What came of an attempt; None: it was called off.
Outcome = Tunnel | TunnelError | None


class Dials:
    """Owns the tasks. `ended` is told of each attempt once, also of those that are called off."""

    def __init__(
        self, engine: TunnelEngine, tasks: Tasks, name: str, *, ended: Callable[[Race, Outcome], None]
    ) -> None:
        self._engine = engine
        self._tasks = tasks
        self._name = name
        self._ended = ended
        self._running: dict[Race, asyncio.Task[Tunnel | TunnelError]] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    def begin(self, race: Race, target: TunnelTarget) -> None:
        """Dial the target's addresses on these paths; the first that answers is taken."""
        addresses = tuple(address for path in race for address in target.on(path))
        wanted = TunnelTarget(target.instance_id, target.identity, addresses)
        task = self._tasks.spawn(self._attempt(wanted), name=f"dial/{self._name}/{'+'.join(race)}")
        self._running[race] = task
        task.add_done_callback(partial(self._done, race))

    def call_off(self, paths: Race = tuple(Path)) -> None:
        """Stop what is under way on any of these paths. `ended` hears of it soon, not now."""
        for race, task in self._running.items():
            if any(path in paths for path in race):
                task.cancel()

    async def aclose(self) -> None:
        """Stop everything, and wait until that has happened."""
        self.call_off()
        if self._running:
            await asyncio.wait(self._running.values())

    async def _attempt(self, target: TunnelTarget) -> Tunnel | TunnelError:
        try:
            return await dial(self._engine, target)
        except TunnelError as error:
            return error

    def _done(self, race: Race, task: "asyncio.Task[Tunnel | TunnelError]") -> None:
        del self._running[race]
        came_to_nothing = task.cancelled() or task.exception() is not None  # the owner of tasks logs a bug
        self._ended(race, None if came_to_nothing else task.result())
