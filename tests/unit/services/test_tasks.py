"""vastproxy.services.tasks: tasks are named, kept, reported and ended; the timer is steady."""

import asyncio
import functools
import gc
import logging
import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.loop import AutojumpLoop
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tasks import Tasks, every

pytestmark = pytest.mark.virtual_time


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def settle(tasks: Tasks) -> None:
    """Wait until every task has ended and was reaped; virtual time passes only when nothing else is to do."""
    await asyncio.sleep(1)
    assert len(tasks) == 0


# spawn


async def test_a_task_bears_its_owners_name_and_gives_its_result() -> None:
    tasks = Tasks("fleet")

    async def work() -> int:
        await asyncio.sleep(1)
        return 7

    task = tasks.spawn(work(), name="sync")
    assert task.get_name() == "fleet/sync"
    assert repr(tasks) == "<Tasks fleet open running=1>"
    assert await task == 7
    await settle(tasks)
    assert repr(tasks) == "<Tasks fleet open running=0>"


async def test_a_task_nobody_else_refers_to_survives_the_garbage_collector() -> None:
    tasks = Tasks("fleet")
    ended = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(1)
        ended.set()

    tasks.spawn(work(), name="w")
    await asyncio.sleep(0)
    gc.collect()
    await ended.wait()


async def test_a_failing_task_is_reported_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("fleet")
    tasks.spawn(fail(ValueError("boom")), name="w")
    await settle(tasks)
    (record,) = caplog.records
    assert record.getMessage() == "task fleet/w failed: ValueError('boom')"
    assert record.exc_info is not None


async def test_an_error_of_ours_is_reported_as_the_one_line_it_is(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks("fleet")
    tasks.spawn(fail(TunnelLost("instance 7: nobody answered")), name="w")
    await settle(tasks)
    (record,) = caplog.records
    assert record.getMessage() == "task fleet/w failed: instance 7: nobody answered"
    assert record.exc_info is None


async def test_a_failing_task_does_not_end_its_siblings() -> None:
    tasks = Tasks("fleet")
    sibling = tasks.spawn(forever(), name="sibling")
    failing = tasks.spawn(fail(TunnelLost("gone")), name="w")
    await asyncio.wait([failing])
    assert not sibling.done()
    await tasks.aclose()


async def test_a_task_that_finishes_at_once_is_not_kept() -> None:
    """Holds for an eager task factory too, under which the task is done when `spawn` returns."""
    tasks = Tasks("fleet")

    async def work() -> None:
        return

    await tasks.spawn(work(), name="w")
    await settle(tasks)


def test_without_a_running_loop_the_work_is_refused_and_closed() -> None:
    """A coroutine left unclosed would warn that it was never awaited, which fails the suite."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        Tasks("fleet").spawn(forever(), name="w")


def test_an_owner_without_tasks_is_true() -> None:
    assert Tasks("fleet")


# aclose


async def test_aclose_cancels_every_task_and_lets_it_clean_up() -> None:
    tasks = Tasks("fleet")
    cleaned = []

    async def work(number: int) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(1)
            cleaned.append(number)

    for number in range(3):
        tasks.spawn(work(number), name=f"w{number}")
    await asyncio.sleep(0)
    await tasks.aclose()
    assert sorted(cleaned) == [0, 1, 2]
    assert repr(tasks) == "<Tasks fleet closed running=0>"


async def test_after_aclose_work_is_refused_and_closed() -> None:
    tasks = Tasks("fleet")
    await tasks.aclose()
    with pytest.raises(RuntimeError, match="fleet is closed; late was not started"):
        tasks.spawn(forever(), name="late")


async def test_aclose_names_a_task_that_will_not_end_and_returns_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks("fleet")
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    started = asyncio.get_running_loop().time()
    await tasks.aclose(limit_s=2.5)
    assert asyncio.get_running_loop().time() - started == pytest.approx(2.5)
    assert [r.getMessage() for r in caplog.records] == [
        "task fleet/stubborn did not end within 2.5 s of being cancelled"
    ]
    release.set()
    await task


async def test_a_second_aclose_waits_but_does_not_break_into_the_cleaning_up() -> None:
    tasks = Tasks("fleet")
    cleaned = asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(5)
            cleaned.set()

    tasks.spawn(work(), name="w")
    await asyncio.sleep(0)
    async with asyncio.TaskGroup() as group:
        group.create_task(tasks.aclose())
        group.create_task(tasks.aclose())
    assert cleaned.is_set()


async def test_a_task_may_close_its_own_owner() -> None:
    tasks = Tasks("fleet")
    sibling = tasks.spawn(forever(), name="sibling")

    async def close() -> str:
        await tasks.aclose()
        return "closed"

    assert await tasks.spawn(close(), name="closer") == "closed"
    assert sibling.cancelled()


# every


class Runs:
    """Counts runs by the virtual second at which each began, and does what it is told."""

    def __init__(self, *, takes_s: float = 0.0, error: Exception | None = None) -> None:
        self.at: list[float] = []
        self._takes_s = takes_s
        self._error = error

    async def __call__(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if self._takes_s:
            await asyncio.sleep(self._takes_s)
        if self._error is not None:
            raise self._error


async def run_for(seconds: float, timer: Coroutine[Any, Any, None]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await timer


async def test_the_first_run_is_now_and_the_next_one_interval_after_the_end_of_the_last() -> None:
    runs = Runs(takes_s=3)
    await run_for(30, every(10, runs))
    assert runs.at == [0, 13, 26]


async def test_a_failing_run_is_reported_and_does_not_end_the_timer(caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs(error=TunnelLost("gone"))
    await run_for(25, every(10, runs))
    assert runs.at == [0, 10, 20]
    assert {r.getMessage() for r in caplog.records} == {"periodic work Runs failed: gone"}


async def test_a_bug_in_the_work_is_reported_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    await run_for(5, every(10, functools.partial(fail, KeyError("x"))))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "periodic work partial failed: KeyError('x')"
    assert record.exc_info is not None


async def test_wake_starts_the_next_run_at_once() -> None:
    runs, wake = Runs(), asyncio.Event()
    asyncio.get_running_loop().call_later(4, wake.set)
    await run_for(16, every(10, runs, wake=wake))
    assert runs.at == [0, 4, 14]


async def test_wake_set_during_a_run_is_not_lost() -> None:
    runs, wake = Runs(takes_s=3), asyncio.Event()
    asyncio.get_running_loop().call_later(1, wake.set)
    await run_for(15, every(10, runs, wake=wake))
    assert runs.at == [0, 3]


@given(seed=st.integers(), jitter=st.floats(0, 0.99), interval=st.floats(0.01, 1e5))
def test_every_pause_stays_within_the_jitter(seed: int, jitter: float, interval: float) -> None:
    runs = Runs()

    async def scenario() -> None:
        await run_for(interval * 5, every(interval, runs, jitter=jitter, rng=random.Random(seed)))

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(scenario())
    pauses = [later - earlier for earlier, later in zip(runs.at, runs.at[1:], strict=False)]
    assert pauses
    for pause in pauses:
        assert interval * (1 - jitter) - 1e-6 <= pause <= interval * (1 + jitter) + 1e-6


@pytest.mark.parametrize(("interval_s", "jitter"), [(0, 0), (-1, 0), (1, 1), (1, -0.1)])
async def test_an_interval_or_jitter_that_makes_no_sense_is_refused(interval_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        await every(interval_s, Runs(), jitter=jitter)


async def test_cancelling_the_timer_ends_it() -> None:
    tasks = Tasks("fleet")
    runs = Runs()
    timer = tasks.spawn(every(10, runs), name="timer")
    await asyncio.sleep(15)
    await tasks.aclose()
    assert timer.cancelled()
    assert runs.at == [0, 10]
