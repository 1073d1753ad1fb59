"""The race detector: a pytest plugin that runs the same tests on a hostile schedule.

Enabled with `-p tests.helpers.race` (`make race`). Each loop runs in debug mode and starts tasks eagerly;
threads are switched a thousand times as often; a blocking call made by vastproxy on an event loop raises
`blockbuster.BlockingError` where it happens. Slow callbacks are not reported: on a loaded machine all are slow, and
tests look at what is logged.
"""

import asyncio
import functools
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster

import vastproxy
from tests.helpers.eager import eager_task_factory
from tests.helpers.loop import LoopFactory

#: Seconds between two thread switches; CPython's default is 5e-3.
SWITCH_INTERVAL_S = 1e-6

#: Where vastproxy may block a loop, each with its reason: (end of the file's name, function).
MAY_BLOCK = (
    ("api/auth.py", "follow"),  # reads the keys once, before anything is served
    ("api/http/tls.py", "look"),  # two stats a second; reads two small files when they have changed
    ("cli/serve.py", "server_tls"),  # reads the certificate once, before anything is served
    ("api/auth.py", "_look"),  # one stat ten times a second; reads a small file when it has changed
    ("api/app.py", "create_app"),  # reads settings once, before anything is served
    ("services/tunnels/keys.py", "load_client_keys"),  # reads keys once, for the engine made at the start
    ("settings/load.py", "effective_environ"),  # reads .env, before anything is served
    ("simulator/serving.py", "startup"),  # uvicorn looks at the path of a unix socket before it binds
    ("simulator/serving.py", "stop"),  # removes the file of that socket
)

_detector = pytest.StashKey[BlockBuster]()
_interval = pytest.StashKey[float]()


def blocking_detector() -> BlockBuster:
    """Watches calls made below vastproxy: what a test does with its own files is its own affair."""
    # blockbuster itself allows imports, linecache (tracebacks) and coverage.
    detector = BlockBuster(scanned_modules=["vastproxy"])
    for watched in detector.functions.values():
        for file, function in MAY_BLOCK:
            watched.can_block_in(file, function)
    return detector


#: Whose tasks start at once: ours. Libraries order their own work by the loop's turns – asyncssh answers a request
#: before the session that it asked for begins, anyio ties cancel scopes to its record of the current task.
EAGER_BELOW = (f"{Path(vastproxy.__file__).parent}/", f"{Path(__file__).parents[1]}/")


def ours_only(eager_factory: Any) -> Any:
    """A task factory that starts coroutines of vastproxy and its tests at once, and everybody else's in their turn."""

    def create(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        code = getattr(work, "cr_code", None)
        if code is not None and code.co_filename.startswith(EAGER_BELOW):
            return eager_factory(loop, work, **options)
        return asyncio.Task(work, loop=loop, **options)

    return create


@functools.cache
def eager(factory: LoopFactory) -> LoopFactory:
    """`factory`, whose loops start tasks eagerly."""

    def make() -> asyncio.AbstractEventLoop:
        loop = factory()
        loop.set_task_factory(ours_only(eager_task_factory()))
        loop.slow_callback_duration = float("inf")
        return loop

    return make


def pytest_configure(config: pytest.Config) -> None:
    # pytest-asyncio sets debug mode from its own option, so PYTHONASYNCIODEBUG alone would be undone.
    config.option.asyncio_debug = True
    config.stash[_interval] = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config.stash[_detector] = blocking_detector()
    config.stash[_detector].activate()


def pytest_unconfigure(config: pytest.Config) -> None:
    if _detector in config.stash:
        config.stash[_detector].deactivate()
        sys.setswitchinterval(config.stash[_interval])


def pytest_report_header() -> str:
    return (
        f"race detector: eager tasks, debug mode, no blocking calls, switch interval {SWITCH_INTERVAL_S:g} s"
    )


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories() -> Generator[None, dict[str, LoopFactory], dict[str, LoopFactory]]:
    factories = yield
    return {name: eager(factory) for name, factory in factories.items()}
