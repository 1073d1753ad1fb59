"""tests.helpers.eager: the first step of a task runs inside the call that creates it.

The same guarantees hold for the emulation (Python 3.11) and the interpreter's own factory (from 3.12 on).
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.helpers.eager import eager_task_factory

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    def loop() -> asyncio.AbstractEventLoop:
        made = asyncio.new_event_loop()
        made.set_task_factory(eager_task_factory())
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        yield runner.run


def spawn(coro: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
    return asyncio.get_running_loop().create_task(coro, **options)


def test_a_task_runs_up_to_its_first_wait(run: Run) -> None:
    seen: list[str] = []

    async def work() -> str:
        seen.append("first step")
        await asyncio.sleep(0)
        seen.append("second step")
        return "result"

    async def main() -> None:
        task = spawn(work())
        assert seen == ["first step"]
        assert task in asyncio.all_tasks()
        assert await task == "result"
        assert seen == ["first step", "second step"]

    run(main())


def test_a_task_without_a_wait_is_done_when_it_is_made(run: Run) -> None:
    async def work() -> int:
        return 3

    async def main() -> None:
        task = spawn(work())
        assert task.done()
        assert task.result() == 3
        assert await task == 3
        assert task not in asyncio.all_tasks()

    run(main())


def test_an_error_of_the_first_step_is_the_tasks_not_the_creators(run: Run) -> None:
    async def work() -> None:
        raise ValueError("boom")

    async def main() -> None:
        task = spawn(work())
        assert task.done()
        with pytest.raises(ValueError, match="boom"):
            await task

    run(main())


def test_the_current_task_is_the_new_one_inside_and_the_creator_again_after(run: Run) -> None:
    inside: list[object] = []

    async def work() -> None:
        inside.append(asyncio.current_task())
        await asyncio.sleep(0)
        inside.append(asyncio.current_task())

    async def main() -> None:
        creator = asyncio.current_task()
        task = spawn(work())
        assert asyncio.current_task() is creator
        await task
        assert inside == [task, task]
        assert asyncio.current_task() is creator

    run(main())


def test_eager_tasks_nest(run: Run) -> None:
    order: list[str] = []

    async def inner() -> None:
        order.append("inner")

    async def outer() -> None:
        order.append("outer")
        inner_task = spawn(inner())
        order.append("outer goes on")
        await inner_task

    async def main() -> None:
        await spawn(outer())

    run(main())
    assert order == ["outer", "inner", "outer goes on"]


def test_a_task_made_by_a_callback_runs_without_a_creator(run: Run) -> None:
    async def main() -> None:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            done.set_result(asyncio.current_task())

        tasks: list[asyncio.Task[Any]] = []
        asyncio.get_running_loop().call_soon(lambda: tasks.append(spawn(work())))
        assert await done is tasks[0]

    run(main())


def test_a_task_has_a_copy_of_its_creators_context(run: Run) -> None:
    async def work() -> str:
        inherited = var.get()
        var.set("changed")
        return inherited

    async def main() -> None:
        var.set("creator")
        assert await spawn(work()) == "creator"
        assert var.get() == "creator"

    run(main())


def test_a_task_runs_in_the_context_it_is_given(run: Run) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return var.get()

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(var.set, "given")
        assert await spawn(work(), context=context) == "given"

    run(main())


def test_the_name_is_the_given_one(run: Run) -> None:
    async def main() -> None:
        task = spawn(asyncio.sleep(0), name="worker")
        assert task.get_name() == "worker"
        await task

    run(main())


def test_a_waiting_task_can_be_cancelled(run: Run) -> None:
    async def main() -> None:
        task = spawn(asyncio.sleep(3600))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


def test_timeouts_and_groups_work(run: Run) -> None:
    async def slow() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async def group_of(*work: Coroutine[Any, Any, Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await group_of(slow(), asyncio.sleep(3600))
        assert caught.group_contains(TimeoutError)
        first, second = await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
        assert (first, second) == (1, 2)
        assert await asyncio.wait_for(asyncio.sleep(0, 3), 1) == 3

    run(main())


def test_what_is_no_coroutine_is_refused(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="coroutine was expected"):
            asyncio.get_running_loop().create_task(1)  # type: ignore[arg-type]

    run(main())
