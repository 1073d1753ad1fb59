"""Monitors: what is counted, and that nothing is unless asked for."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.vastai.support import Clock
from vastproxy.vastai.errors import VastRejected
from vastproxy.vastai.monitor import CallStats, NullMonitor, RecordingMonitor


def test_counts_times_and_errors_by_code() -> None:
    clock = Clock()
    monitor = RecordingMonitor(clock=clock)
    with monitor.track("list"):
        clock.now += 2

    def refused() -> None:
        with monitor.track("list"):
            clock.now += 1
            raise VastRejected("no", "no_such_ask")

    with pytest.raises(VastRejected):
        refused()
    with pytest.raises(ValueError, match="bug"), monitor.track("list"):
        raise ValueError("bug")
    assert monitor.snapshot() == {"list": CallStats(3, {"no_such_ask": 1, "ValueError": 1}, 0.0, 3.0)}


def test_a_snapshot_does_not_change() -> None:
    monitor = RecordingMonitor()
    with monitor.track("a"):
        pass
    before = monitor.snapshot()
    with monitor.track("a"):
        pass
    assert before["a"].count == 1
    assert monitor.snapshot()["a"].count == 2


def test_no_call_is_lost_among_threads() -> None:
    monitor = RecordingMonitor()

    def work() -> None:
        for _ in range(50):
            with monitor.track("a"):
                pass

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(20)
    assert monitor.snapshot()["a"].count == 400


def test_the_null_monitor_hides_nothing() -> None:
    with pytest.raises(ValueError, match="x"), NullMonitor().track("a"):
        raise ValueError("x")
