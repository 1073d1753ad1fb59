"""What the fleet does about events from outside, and about an old list, with an account that is a list."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from vastproxy.jobs.sync import SyncJob
from vastproxy.services.backends.state import Event, State
from vastproxy.services.events import BackendAdded, BackendRemoved, Heard, PollFailed, StateChanged
from vastproxy.services.tasks import Tasks
from vastproxy.vastai import VastUnavailable
from vastproxy.vastai.handlers.events import Decision, Verdict

OUTBID = Decision(Verdict.SUSPECT, (1,), "vast.ai says: outbid")


@pytest.fixture
async def bench() -> AsyncIterator[FleetBench]:
    bench = FleetBench(label="none")
    async with bench.fleet:
        yield bench


async def test_a_suspect_is_given_nothing_until_a_probe_has_succeeded(bench: FleetBench) -> None:
    await bench.serve(1, 2)
    bench.fleet.wake(1).clear()
    bench.fleet.hear(OUTBID)
    assert bench.states() == {1: "unhealthy", 2: "healthy"}
    why = "vast.ai says: outbid; waiting for a probe"
    assert StateChanged(1, State.HEALTHY, State.UNHEALTHY, Event.SUSPECTED, why) in bench.events
    assert bench.fleet.wake(1).is_set()
    await bench.fleet.tend(1)
    assert bench.states() == {1: "healthy", 2: "healthy"}


async def test_an_instance_that_may_have_come_up_is_probed_and_no_suspect(bench: FleetBench) -> None:
    await bench.serve(1)
    bench.fleet.wake(1).clear()
    bench.fleet.hear(Decision(Verdict.LOOK, (1,), "an instance says: up"))
    assert bench.states() == {1: "healthy"}
    assert bench.fleet.wake(1).is_set()


async def test_only_a_healthy_one_can_become_suspect(bench: FleetBench) -> None:
    """One that is drained stays drained, one that is being connected goes on, one that is gone is nobody's business."""
    await bench.serve(2)
    bench.account.instances = [make_instance(id=number) for number in (1, 2)]
    await bench.fleet.sync()
    bench.fleet.drain(2)
    bench.fleet.hear(Decision(Verdict.SUSPECT, (1, 2, 3), "x"))
    assert bench.states() == {1: "discovered", 2: "draining"}


async def test_nothing_happens_for_nothing_and_at_the_end() -> None:
    bench = FleetBench(label="none")
    async with bench.fleet:
        await bench.serve(1)
        bench.fleet.hear(Decision(Verdict.NOTHING, (1,), "x"))
    bench.fleet.hear(OUTBID)
    assert not [event for event in bench.events if isinstance(event, Heard)]


async def test_what_is_heard_makes_the_list_be_read_afresh_and_a_swarm_of_it_once() -> None:
    # The swarm has to be over before the list may be read again.
    bench, jobs = FleetBench(label="none", poll_interval_s=1.0, poll_jitter=0.0), Tasks("jobs")
    async with bench.fleet:
        bench.account.instances = [make_instance(id=1)]
        jobs.spawn(SyncJob(bench.fleet).run(), name="sync")
        await bench.until(BackendAdded(1))
        bench.account.instances = []
        for _ in range(50):
            bench.fleet.hear(Decision(Verdict.POLL, (), "x"))
            await asyncio.sleep(0)
        bench.account.instances = [make_instance(id=2)]
        await bench.until(BackendAdded(2))
        assert bench.account.asked_fresh == [False, True]
        await bench.until(BackendRemoved(1, "no longer in the account"))
        assert bench.account.asked_fresh == [False, True, False]
        await jobs.aclose()


async def test_a_fleet_begins_with_an_old_list_where_there_is_one(bench: FleetBench) -> None:
    """It says that vast.ai cannot be asked, and an old list neither counts as one nor comes again after a good one."""
    bench.account.list_error = VastUnavailable("502", "bad_gateway")
    bench.account.old = [make_instance(id=1)]
    await bench.fleet.sync()
    assert list(bench.states()) == [1]
    assert bench.fleet.summary().vast_api.status == "unhealthy"
    assert PollFailed("502 (the last good one is 60 s old)") in bench.events
    bench.account.list_error = None
    bench.account.instances = [make_instance(id=1), make_instance(id=2)]
    await bench.fleet.sync()
    bench.account.list_error = VastUnavailable("502", "bad_gateway")
    bench.account.old = []
    await bench.fleet.sync()
    assert list(bench.states()) == [1, 2]
    assert bench.events[-1] == PollFailed("502")
