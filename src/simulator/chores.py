"""Tasks with a name and an owner, for the simulator (which may not import the services' one)."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Chores:
    """The tasks of one owner: kept alive, a failure reported once, all ended within a limit."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> "asyncio.Task[Any] | None":
        """Start `work` as a task named `owner/name`. After `aclose` nothing starts; None is returned."""
        if self._closing:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}/{name}")
        if not task.done():
            self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed: %r", task.get_name(), error, exc_info=error)

    async def aclose(self, *, limit_s: float = 5.0) -> None:
        """Cancel every task and wait for their ends, at most `limit_s`. A task may close its own owner."""
        self._closing = True
        mine = asyncio.current_task()
        pending = {task for task in self._tasks if task is not mine}
        for task in pending:
            task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=limit_s)
            for task in stuck:
                logger.error("task %s did not end within %.0f s of being cancelled", task.get_name(), limit_s)
