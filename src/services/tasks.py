"""Tasks with a name and an owner.

The event loop keeps only weak references to tasks and says nothing when one dies. A `Tasks`
keeps them, reports a failure once, and ends them all within a limit.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner. Not a task group: one failing task does not end its siblings."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> "asyncio.Task[Any]":
        """Start `work` as a task named `owner/name`. After `aclose` the work is refused and closed."""
        if self._closing:
            work.close()
            raise RuntimeError(f"{self._owner} is closed; {name} was not started")
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, name=f"{self._owner}/{name}")
        if not task.done():  # an eager task factory may have finished it already
            self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed: %r", task.get_name(), error, exc_info=error)

    async def aclose(self, *, limit_s: float = 10.0) -> None:
        """Cancel every task and wait for their ends, at most `limit_s`; says which ones would not end."""
        self._closing = True
        mine = asyncio.current_task()
        pending = {task for task in self._tasks if task is not mine}
        for task in pending:
            task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=limit_s)
            for task in stuck:
                logger.error("task %s did not end within %.0f s of being cancelled", task.get_name(), limit_s)


async def every(
    interval_s: float,
    work: Callable[[], Awaitable[object]],
    *,
    jitter: float = 0.0,
    wake: asyncio.Event | None = None,
    rng: random.Random | None = None,
) -> None:
    """Run `work` now and then every `interval_s` seconds, plus or minus the share `jitter`, for ever.

    The next run starts one interval after the last one ended, so a slow run is never overtaken. Setting
    `wake` starts the next run at once. An exception is logged and does not end the timer.
    """
    rng = rng or random.Random()
    while True:
        if wake is not None:
            wake.clear()
        try:
            await work()
        except Exception:
            logger.exception("periodic work %s failed", getattr(work, "__qualname__", work))
        pause_s = interval_s * (1 + jitter * (2 * rng.random() - 1))
        if wake is None:
            await asyncio.sleep(pause_s)
            continue
        try:
            async with asyncio.timeout(pause_s):
                await wake.wait()
        except TimeoutError:
            pass
