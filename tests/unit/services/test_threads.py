"""Blocking calls beside the loop."""

import asyncio
import threading

import pytest

from vastproxy.services.threads import in_thread


async def test_the_result_comes_back_from_another_thread() -> None:
    assert await in_thread(threading.current_thread, name="call") is not threading.current_thread()


async def test_so_does_the_error() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_thread(fail, name="call")


async def test_a_call_that_hangs_holds_up_nobody_who_stops_waiting() -> None:
    release = threading.Event()
    ended = threading.Event()

    def hang() -> None:
        release.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await in_thread(hang, name="call")
    release.set()
    assert await asyncio.to_thread(ended.wait, 5)
