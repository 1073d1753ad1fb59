"""What this process knows of host keys is not lost to what happens to the file meanwhile."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.pins import Verdict


class LateFirst(ThreadPoolExecutor):
    """Does everything at once, and hands on what came of its first task only when `gate` is open."""

    def __init__(self) -> None:
        super().__init__(4)
        self.gate = threading.Event()
        self.done = threading.Event()
        self._is_first = True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        is_first, self._is_first = self._is_first, False

        def late() -> Any:
            result = fn(*args, **kwargs)
            self.done.set()
            assert self.gate.wait(10)
            return result

        return super().submit(late) if is_first else super().submit(fn, *args, **kwargs)


async def test_a_damaged_file_costs_a_running_proxy_nothing(tmp_path: FilePath) -> None:
    """It knows the pins and writes them again; only one that starts with such a file trusts anew."""
    file = tmp_path / "host_keys.json"
    pins = HostKeyPins(file)
    await pins.trust("7@1", Path.DIRECT, "A")
    await asyncio.to_thread(file.write_bytes, b"{")
    await pins.refresh()
    assert pins.check("7@1", Path.DIRECT, "B") is Verdict.CHANGED
    later = HostKeyPins(file)
    await later.refresh()
    assert later.pinned("7@1", Path.DIRECT) == "A"


async def test_a_look_at_the_file_does_not_undo_what_is_pinned_meanwhile(tmp_path: FilePath) -> None:
    """Many logins look and pin at once: what was read before a pin was written comes to nothing after it."""
    pins, executor = HostKeyPins(tmp_path / "host_keys.json"), LateFirst()
    asyncio.get_running_loop().set_default_executor(executor)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(pins.refresh())
        await asyncio.sleep(0)  # it is the first to go to a thread
        await asyncio.to_thread(executor.done.wait, 10)
        await pins.trust("7@1", Path.DIRECT, "A")
        executor.gate.set()
        await looking
    assert pins.pinned("7@1", Path.DIRECT) == "A"
