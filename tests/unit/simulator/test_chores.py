"""Tasks of the simulator: named, reported, ended."""

import asyncio
import logging

import pytest

from vastproxy.simulator.chores import Chores

pytestmark = pytest.mark.virtual_time


async def test_tasks_have_names_and_end_with_their_owner() -> None:
    chores = Chores("owner")
    task = chores.spawn(asyncio.sleep(100), name="nap")
    assert task is not None
    assert task.get_name() == "owner/nap"
    assert len(chores) == 1
    await chores.aclose()
    assert task.cancelled()
    assert len(chores) == 0
    assert chores.spawn(asyncio.sleep(1), name="late") is None


async def test_a_failure_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    chores = Chores("owner")
    chores.spawn(fail(), name="bad")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == [
        "task owner/bad failed: RuntimeError('broken')"
    ]
    await chores.aclose()


async def test_a_task_that_will_not_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    chores = Chores("owner")
    task = chores.spawn(stubborn(), name="mule")
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        await chores.aclose(limit_s=0.5)
    assert "task owner/mule did not end" in caplog.text
    release.set()
    assert task is not None
    await task


async def test_a_task_may_close_its_own_owner() -> None:
    chores = Chores("owner")
    task = chores.spawn(chores.aclose(), name="last")
    assert task is not None
    await task
