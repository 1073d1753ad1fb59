"""Event loops for tests, and the choice among them.

A test marked `virtual_time` runs on an `AutojumpLoop`: when every task waits, the clock jumps to the
next timer, so an hour of `asyncio.sleep` costs milliseconds and a deadlock is an exception instead of
a hang. `loop.time()` starts at 0.0. Threads, sockets and child processes look like "everybody waits",
so such a test must not use them.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import NoReturn

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Deadlock(RuntimeError):
    """Every task waits, and nothing that could wake one is scheduled."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where a selector would block, its clock advances instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if ready := super().select(0):
            return ready
        if timeout is None:
            raise Deadlock(
                "every task waits and no timer is set (threads and sockets do not work in virtual time)"
            )
        self.now += max(timeout, 0.0)
        return []


class AutojumpLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is virtual and jumps over all waiting."""

    def __init__(self) -> None:
        self._jump = _JumpingSelector()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:
        raise RuntimeError(
            "there are no threads in virtual time; remove the virtual_time mark from this test"
        )


def loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    """The loop on which `item` runs. The callables are the same objects at each call, as pytest-asyncio
    compares them to know whether a loop can be kept."""
    if item.get_closest_marker("virtual_time") is not None:
        return {"virtual": AutojumpLoop}
    return {"default": asyncio.new_event_loop}
