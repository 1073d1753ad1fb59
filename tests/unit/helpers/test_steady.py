"""The clock that stands still with the machine counts waiting and computing, and nothing else."""

import asyncio
import threading
import time

from tests.helpers.steady import Steady


async def test_what_is_waited_for_is_counted() -> None:
    """The most of several tries: a machine that stands still meanwhile takes away from it."""
    found_s = []
    async with Steady() as steady:
        for _ in range(10):
            began = time.monotonic()
            await asyncio.sleep(0.1)
            found_s.append(await steady.took_s(began, time.monotonic()))
    assert max(found_s) > 0.05


async def test_what_is_computed_is_counted() -> None:
    async with Steady() as steady:
        began, cpu_s = time.monotonic(), time.thread_time()
        while time.thread_time() - cpu_s < 0.2:
            pass
        assert await steady.took_s(began, time.monotonic()) > 0.15


async def test_what_the_thread_was_not_let_do_is_not_counted() -> None:
    async with Steady() as steady:
        began = time.monotonic()
        await asyncio.sleep(0.02)
        threading.Event().wait(0.5)  # as on a machine that stands still
        await asyncio.sleep(0.02)
        ended = time.monotonic()
        assert ended - began > 0.5
        assert await steady.took_s(began, ended) < 0.3
