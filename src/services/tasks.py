"""Tasks with a name and an owner.

The event loop keeps only weak references to tasks and says nothing when one dies. A `Tasks`
keeps them, reports a failure once, and ends them all within a limit.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from vastproxy.errors import VastproxyError

logger = logging.getLogger(__name__)


class Tasks:
    """The tasks of one owner. Not a task group: one failing task does not end its siblings."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._tasks)

    def __bool__(self) -> bool:
        return True  # an owner without tasks is still an owner

    @property
    def closed(self) -> bool:
        """Has `aclose` begun, so that nothing more can be started?"""
        return self._closing

    def __repr__(self) -> str:
        state = "closed" if self._closing else "open"
        return f"<Tasks {self._owner} {state} running={len(self._tasks)}>"

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> "asyncio.Task[Any]":
        """Start `work` as a task named `owner/name`.

        A failure is logged once when the task ends, whether or not somebody awaits it too.
        Raises RuntimeError after `aclose` or without a running loop; `work` is closed then.
        """
        if self._closing:
            work.close()
            raise RuntimeError(f"{self._owner} is closed; {name} was not started")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            work.close()
            raise
        task = loop.create_task(work, name=f"{self._owner}/{name}")
        if not task.done():  # an eager task factory may have finished it already
            self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _report(f"task {task.get_name()}", error)

    async def aclose(self, *, limit_s: float = 10.0) -> None:
        """Cancel every task and wait for their ends, at most `limit_s`; logs which ones would not end.

        May be called again, and from one of the tasks, which is then left running. A task is cancelled
        once only: a second cancellation would break into its cleaning up.
        """
        first, self._closing = not self._closing, True
        mine = asyncio.current_task()
        pending = {task for task in self._tasks if task is not mine}
        if first:
            for task in pending:
                task.cancel()
        if pending:
            _, stuck = await asyncio.wait(pending, timeout=limit_s)
            for task in stuck:
                logger.error("task %s did not end within %g s of being cancelled", task.get_name(), limit_s)


def _report(what: str, error: BaseException) -> None:
    """An error of ours explains itself in one line; anything else is a bug and needs its traceback."""
    if isinstance(error, VastproxyError):
        logger.error("%s failed: %s", what, error)
    else:
        logger.error("%s failed: %r", what, error, exc_info=error)


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
    `wake` starts the next run at once, also when it is set during a run. An exception is logged and does
    not end the timer. Raises ValueError when `interval_s` is not above 0 or `jitter` not within [0, 1).
    """
    if interval_s <= 0:
        raise ValueError(f"interval_s must be above 0, not {interval_s}")
    if not 0 <= jitter < 1:
        raise ValueError(f"jitter must be at least 0 and below 1, not {jitter}")
    rng = rng or random.Random()
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            await work()
        except Exception as error:
            _report(f"periodic work {_name_of(work)}", error)
        pause_s = interval_s * (1 + jitter * (2 * rng.random() - 1))
        try:
            async with asyncio.timeout(pause_s):
                await wake.wait()
        except TimeoutError:
            pass  # nobody woke us: the interval is over


def _name_of(work: Callable[[], Awaitable[object]]) -> str:
    """The name of a function, or the type of any other callable, whose repr may contain anything."""
    return getattr(work, "__qualname__", None) or type(work).__name__
