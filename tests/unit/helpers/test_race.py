"""tests.helpers.race: under the plugin, tests run eagerly, in debug mode, and vastproxy must not block."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]

CONFTEST = "from tests.conftest import pytest_asyncio_loop_factories"

SUITE = """
import asyncio, sys, time
import pytest
from tests.helpers.loop import AutojumpLoop
from vastproxy.services.tasks import every

async def test_our_tasks_start_eagerly_and_others_in_their_turn_in_debug_mode():
    seen = []
    async def work(): seen.append(1)
    loop = asyncio.get_running_loop()
    ours = loop.create_task(every(60, work))
    assert seen == [1]
    others = loop.create_task(work())  # this file is not below vastproxy or its tests
    assert seen == [1]
    await others
    assert seen == [1, 1]
    ours.cancel()
    assert loop.get_debug()
    assert sys.getswitchinterval() < 1e-5

@pytest.mark.virtual_time
async def test_virtual_time_is_eager_too():
    assert isinstance(asyncio.get_running_loop(), AutojumpLoop)
    assert asyncio.get_running_loop().create_task(asyncio.sleep(0, 5)).done() is False
    await asyncio.sleep(3600)

async def test_a_test_may_block(caplog):
    asyncio.get_running_loop().call_soon(time.sleep, 0.12)  # asyncio calls slow what takes 0.1 s
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert caplog.records == []

async def test_vastproxy_may_not_block(caplog):
    async def work(): time.sleep(0.001)
    timer = asyncio.get_running_loop().create_task(every(60, work))
    await asyncio.sleep(0)
    timer.cancel()
    assert "BlockingError('Blocking call to time.sleep')" in caplog.text
"""


def test_the_schedule_is_hostile(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "markers =\n    virtual_time: a virtual clock\n"
    )
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for -p, which is imported before the conftest
    result = pytester.runpytest_subprocess("-p", "tests.helpers.race", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["race detector: eager tasks, *"])
