"""tests.helpers.loop: virtual time jumps, and a deadlock is an exception."""

import asyncio
import time

import pytest

from tests.helpers.loop import AutojumpLoop, Deadlock


@pytest.mark.virtual_time
async def test_an_hour_of_waiting_takes_no_time() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AutojumpLoop)
    began, real = loop.time(), time.perf_counter()
    await asyncio.sleep(3600)
    assert loop.time() - began == pytest.approx(3600)
    assert time.perf_counter() - real < 60


@pytest.mark.virtual_time
async def test_timers_fire_in_their_order_at_their_time() -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("c", 100_000.0), ("a", 0.5), ("b", 7.25)):
            group.create_task(wait(name, seconds))
    assert seen == [("a", 0.5), ("b", 7.25), ("c", 100_000.0)]


@pytest.mark.virtual_time
async def test_a_timeout_is_virtual_too() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(86_400):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == 86_400


def test_a_deadlock_is_an_exception() -> None:
    with (
        pytest.raises(Deadlock, match="every task waits"),
        asyncio.Runner(loop_factory=AutojumpLoop) as runner,
    ):
        runner.run(asyncio.Event().wait())


@pytest.mark.virtual_time
async def test_a_thread_is_refused_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match="remove the virtual_time mark"):
        await asyncio.to_thread(int)


async def test_without_the_mark_time_is_real() -> None:
    assert not isinstance(asyncio.get_running_loop(), AutojumpLoop)
