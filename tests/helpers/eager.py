"""Eager tasks: a task runs up to its first wait inside the call that creates it.

Python 3.12 brings `asyncio.eager_task_factory`. For Python 3.11 this is the same on the interpreter's
own pure Python task: the first step is run in place instead of being scheduled. What differs from a
plain task is what the race detector is after: code that relies on "a new task has not begun yet".

As in Python 3.12, the name given to `create_task` is set only after the first step.
"""

import asyncio
import contextvars
import sys
from asyncio import tasks as _tasks
from collections.abc import Callable, Coroutine, Generator
from typing import Any

TaskFactory = Callable[..., "asyncio.Future[Any]"]


class _Unscheduled:
    """Stands in for the loop while a task is being made, so that its first step is not scheduled."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def get_debug(self) -> bool:
        return self._loop.get_debug()

    def call_soon(self, *_: Any, **__: Any) -> None:
        pass


def _eager_task_class() -> Any:
    python_task: Any = _tasks._PyTask  # type: ignore[attr-defined]

    class EagerTask(python_task):  # type: ignore[misc]
        """The interpreter's Python task, whose first step runs in the constructor while the loop runs."""

        def __init__(
            self,
            coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
            *,
            loop: asyncio.AbstractEventLoop,
            context: contextvars.Context | None = None,
        ) -> None:
            starts_now = loop.is_running()
            super().__init__(coro, loop=_Unscheduled(loop) if starts_now else loop, context=context)
            if starts_now:
                self._loop = loop
                self._first_step()

        def _first_step(self) -> None:
            # A step enters and leaves its task by itself; the creator only has to step aside.
            creator = asyncio.current_task(self._loop)
            if creator is not None:
                _tasks._leave_task(self._loop, creator)
            try:
                self._context.run(self._Task__step)
            finally:
                if creator is not None:
                    _tasks._enter_task(self._loop, creator)

    return EagerTask


def emulated_eager_task_factory() -> TaskFactory:
    """A task factory for Python 3.11 that does what `asyncio.eager_task_factory` does from 3.12 on."""
    eager_task = _eager_task_class()

    def factory(
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: contextvars.Context | None = None,
    ) -> "asyncio.Future[Any]":
        task: asyncio.Future[Any] = eager_task(coro, loop=loop, context=context)
        return task

    return factory


def eager_task_factory() -> TaskFactory:
    """The eager task factory of this interpreter: its own, or on Python 3.11 the emulation."""
    if sys.version_info >= (3, 12):
        factory: TaskFactory = asyncio.eager_task_factory
        return factory
    return emulated_eager_task_factory()
