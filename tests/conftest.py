"""What holds for every test: the loop it runs on, and that it leaves nothing behind."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
from hypothesis import settings

from tests.helpers.leaks import Snapshot, leaked_tasks, leaks_since, report
from tests.helpers.loop import LoopFactory, loop_factories
from tests.helpers.order import woven

_before = pytest.StashKey[Snapshot]()

#: How long an example takes says more about the machine than about the code.
settings.register_profile("vastproxy", deadline=None)
#: For `make test`, which has much to do and says the same of the same code: fewer examples, drawn from the test itself.
#: Whoever runs tests otherwise gets others each time.
settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
settings.load_profile(os.environ.get("TESTS_PROFILE", "vastproxy"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the tests, those that wait for others run beside those that compute."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = woven(items, waits=lambda item: "integration" in item.path.parts)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    return loop_factories(item)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Commands and servers that run within a test set up logging for their process; the next test
    has a log of its own."""
    root = logging.getLogger()
    level_of_all = root.level
    servers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(one, one.level, one.propagate, one.handlers[:]) for one in servers]
    yield
    root.setLevel(level_of_all)
    for one, level, propagate, handlers in before:
        one.setLevel(level)
        one.propagate = propagate
        one.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _leak_guard(request: pytest.FixtureRequest) -> None:
    """Fixtures of a wider scope exist by now, so what they keep open is not held against the test."""
    request.node.stash[_before] = Snapshot.take()
    if request.node.get_closest_marker("asyncio") is not None:
        # Set up before the test's own fixtures, so torn down after them and before the loop ends.
        request.getfixturevalue("_task_guard")


@pytest.fixture
async def _task_guard() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    if leaks := await leaked_tasks(before):
        pytest.fail(report(leaks), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """All fixtures have ended and the loop is closed: now nothing may be left."""
    yield
    before = item.stash.get(_before, None)
    if before is not None and (leaks := leaks_since(before)):
        pytest.fail(report(leaks), pytrace=False)
