"""tests.helpers.leaks finds what was left behind, and only that."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.helpers.leaks import Snapshot, leaked_tasks, leaks_since, report

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]
QUICK_S = 0.05


def test_nothing_is_found_where_nothing_was_left() -> None:
    before = Snapshot.take()
    with socket.socket():
        pass
    assert leaks_since(before) == []


def test_an_open_socket_is_found() -> None:
    before = Snapshot.take()
    with socket.socket() as leaked:
        (line,) = leaks_since(before, grace_s=QUICK_S)
        assert line.startswith(f"file descriptor {leaked.fileno()}: socket:[")


def test_a_descriptor_number_used_again_is_found() -> None:
    first = socket.socket()
    number = first.fileno()
    before = Snapshot.take()
    first.close()
    with socket.socket() as leaked:
        assert leaked.fileno() == number
        assert len(leaks_since(before, grace_s=QUICK_S)) == 1


def test_what_libraries_keep_open_is_allowed() -> None:
    before = Snapshot.take()
    with open("/dev/null"), open("/dev/urandom"):
        assert leaks_since(before, grace_s=QUICK_S) == []


def test_a_running_thread_is_found() -> None:
    before = Snapshot.take()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    thread.start()
    assert leaks_since(before, grace_s=QUICK_S) == ["thread 'forgotten'"]
    release.set()
    thread.join()


def test_a_thread_on_its_way_out_is_not_a_leak() -> None:
    before = Snapshot.take()
    thread = threading.Timer(QUICK_S, lambda: None)
    thread.start()
    assert leaks_since(before, grace_s=20) == []
    thread.join()


def test_a_child_process_is_found_by_its_command_line() -> None:
    before = Snapshot.take()
    with subprocess.Popen(["sleep", "1234"]) as child:
        assert f"child process {child.pid}: sleep 1234" in leaks_since(before, grace_s=QUICK_S)
        child.kill()


def test_a_child_nobody_waited_for_is_found() -> None:
    before = Snapshot.take()
    reader, writer = os.pipe()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.close(writer)
    os.close(reader)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert leaks_since(before, grace_s=QUICK_S) == [f"child process {pid}: ended, but nobody waited for it"]
    os.waitpid(pid, 0)


async def test_a_task_that_waits_is_found_with_its_place() -> None:
    before = asyncio.all_tasks()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.Event().wait(), name="forgotten")
        await asyncio.sleep(0)
        (line,) = await leaked_tasks(before, grace_s=QUICK_S)
        assert line.startswith("task 'forgotten' at ")
        assert line.endswith("in Event.wait")
        task.cancel()


async def test_a_task_that_ends_by_itself_is_not_a_leak() -> None:
    before = asyncio.all_tasks()
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(QUICK_S))
        assert await leaked_tasks(before, grace_s=20) == []


def test_the_report_is_a_list() -> None:
    assert report(["a", "b"]) == "this test left behind:\n  - a\n  - b"


def test_a_test_that_leaks_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures of this suite, on a suite of their own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TESTS_GRACE_S", "1")
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest(
        "from tests.conftest import *\nfrom tests.conftest import _leak_guard, _task_guard\n"
    )
    pytester.makepyfile(
        """
        import asyncio, os, pytest

        @pytest.fixture
        async def server():
            task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
            yield
            task.cancel()

        @pytest.fixture(scope="module")
        def shared():
            reader, writer = os.pipe()
            yield
            os.close(reader), os.close(writer)

        async def test_clean(server): pass
        def test_shared_fixture(shared): pass
        async def test_task():
            asyncio.get_running_loop().create_task(asyncio.Event().wait(), name="forgotten")
        def test_descriptors(): os.pipe()
        async def test_after(shared): pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_task*",
            "*task 'forgotten' at *",
            "*ERROR at teardown of test_descriptors*",
            "*pipe:*",
        ]
    )
