"""The facade, with instances in memory and an account that is a list."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from vastproxy.jobs.probe import ProbeJob
from vastproxy.jobs.sync import SyncJob
from vastproxy.services.errors import BackendConnectError, NoBackendAvailable
from vastproxy.services.events import (
    AccountRead,
    BackendAdded,
    BackendRemoved,
    FleetEvent,
    LabelWritten,
    PollFailed,
    StateChanged,
)
from vastproxy.services.routing.models import Listed
from vastproxy.services.tasks import Tasks
from vastproxy.vastai import (
    VastNotFound,
    VastUnauthorized,
    VastUnavailable,
)


@pytest.fixture
async def bench() -> AsyncIterator[FleetBench]:
    bench = FleetBench()
    async with bench.fleet:
        yield bench


async def test_found_tended_labelled_and_leased_in_turn(bench: FleetBench) -> None:
    await bench.serve(2, 1)
    leases = [bench.lease() for _ in range(3)]
    assert [lease.backend.id for lease in leases] == [1, 2, 1]
    assert leases[0].backend.in_flight == 2
    for lease in leases:
        bench.release(lease)
        bench.release(lease)
    assert leases[0].backend.in_flight == 0
    await bench.until(LabelWritten(1, "proxied"))
    await bench.until(LabelWritten(2, "proxied"))
    assert bench.fleet.snapshot().backends[0].label == "proxied"
    assert bench.fleet.models() == [Listed("m", (1, 2))]


async def test_labels_are_cleared_when_a_backend_falls_ill_and_at_the_end() -> None:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1, 2)
        await bench.until(LabelWritten(2, "proxied"))
        bench.engine.made[0].end(None)
        await bench.until(LabelWritten(1, ""))
    assert sorted(bench.account.labels) == [(1, ""), (1, "proxied"), (2, ""), (2, "proxied")]
    assert bench.engine.closed
    assert bench.account.closed
    assert not any(tunnel.is_alive for tunnel in bench.engine.made)


async def test_a_key_without_the_right_to_label_is_told_once_and_all_is_served(
    bench: FleetBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.account.label_error = VastUnauthorized("missing scope", "auth_error")

    def told() -> int:
        return sum("may not write labels" in line for line in caplog.messages)

    await bench.serve(1, 2)
    async with asyncio.timeout(30):
        while not told():
            await asyncio.sleep(0.001)
    for _ in range(3):
        await bench.fleet.sync()
        await asyncio.sleep(0.02)
    assert bench.states() == {1: "healthy", 2: "healthy"}
    assert told() == 1


async def test_a_label_that_failed_is_written_after_the_next_list(bench: FleetBench) -> None:
    bench.account.label_error = VastUnavailable("502", "bad_gateway")
    await bench.serve(1)
    await asyncio.sleep(0.02)
    bench.account.label_error = None
    await bench.fleet.sync()
    await bench.until(LabelWritten(1, "proxied"))


async def test_a_label_that_is_rejected_holds_up_no_other(bench: FleetBench) -> None:
    bench.account.label_refused = 1
    await bench.serve(1, 2)
    await bench.until(LabelWritten(2, "proxied"))
    assert bench.account.labels == [(2, "proxied")]


async def test_a_blocked_address_is_not_taken_for_a_missing_right(bench: FleetBench) -> None:
    bench.account.label_error = VastUnauthorized("a web page", "edge_blocked", http_status=403)
    await bench.serve(1)
    await asyncio.sleep(0.02)
    bench.account.label_error = None
    await bench.fleet.sync()
    await bench.until(LabelWritten(1, "proxied"))


async def test_an_instance_that_vanished_needs_no_label(bench: FleetBench) -> None:
    bench.account.label_error = VastNotFound("gone", "no_such_instance")
    await bench.serve(1)
    await bench.until(LabelWritten(1, "proxied"))


async def test_the_numbers_of_the_account_are_told_when_they_change(bench: FleetBench) -> None:
    bench.account.instances = [make_instance(id=1), make_instance(id=2, actual_status="exited")]
    for _ in range(3):
        await bench.fleet.sync()
    assert [event for event in bench.events if isinstance(event, AccountRead)] == [AccountRead(2, 1)]


async def test_an_api_that_fails_empties_nothing(bench: FleetBench) -> None:
    await bench.serve(1)
    bench.account.list_error = VastUnavailable("vast.ai answered 502", "bad_gateway")
    for _ in range(5):
        await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}
    snapshot = bench.fleet.snapshot()
    assert (snapshot.status, snapshot.vast_api.status) == ("degraded", "unhealthy")
    assert "502" in (snapshot.reason or "")
    assert PollFailed("vast.ai answered 502") in bench.events


async def test_a_list_with_rows_that_could_not_be_read_proves_no_absence(bench: FleetBench) -> None:
    await bench.serve(1)
    bench.account.instances, bench.account.skipped = [], 1
    for _ in range(5):
        await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}


async def test_gone_after_two_complete_lists_and_back_as_a_new_backend(bench: FleetBench) -> None:
    await bench.serve(1)
    bench.account.instances = []
    await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}
    await bench.fleet.sync()
    assert bench.states() == {}
    await bench.until(BackendRemoved(1, "no longer in the account"))
    with pytest.raises(NoBackendAvailable, match="no running instance"):
        bench.lease()
    await bench.serve(1)
    assert bench.states() == {1: "healthy"}
    assert bench.events.count(BackendAdded(1)) == 2


async def test_what_is_tried_is_not_leased_again(bench: FleetBench) -> None:
    await bench.serve(1, 2)
    claim = bench.lease()
    assert claim.backend.id == 1
    dispatcher = bench.fleet.dispatcher
    for other in (2, None):
        dispatcher.failed(claim, BackendConnectError("refused"), reached=False)
        if other is None:
            with pytest.raises(NoBackendAvailable, match="2 engines were tried"):
                dispatcher.try_elsewhere(claim, costly=False)
        else:
            dispatcher.try_elsewhere(claim, costly=False)
            assert claim.backend.id == other
    bench.release(claim)


async def test_one_that_could_not_be_reached_is_probed_at_once_and_gets_nothing_before(
    bench: FleetBench,
) -> None:
    await bench.serve(1, 2)
    claim = bench.lease()
    bench.fleet.dispatcher.failed(claim, BackendConnectError("refused"), reached=False)
    assert bench.fleet.wake(1).is_set()
    others = [bench.lease() for _ in range(3)]
    assert {each.backend.id for each in others} == {2}
    await bench.fleet.tend(1)
    assert bench.lease(pin=1).backend.id == 1


async def test_a_pin_is_granted_where_it_can_be(bench: FleetBench) -> None:
    await bench.serve(1, 2)
    assert bench.lease(pin=2).backend.id == 2
    assert bench.lease(pin=9).backend.id == 1


async def test_why_nobody_can_serve() -> None:
    bench = FleetBench()
    async with bench.fleet:
        assert bench.fleet.snapshot().reason == "the instance list has not been read yet"
        bench.account.list_error = VastUnauthorized("Invalid user key", "auth_error")
        await bench.fleet.sync()
        assert "Invalid user key" in (bench.fleet.snapshot().reason or "")
        bench.account.list_error = None
        bench.engine.inside.listening = False
        await bench.serve(1)
        assert bench.fleet.snapshot().reason == "none of 1 backends can serve"


async def test_a_drained_backend_comes_back_after_undrain_and_a_probe(bench: FleetBench) -> None:
    await bench.serve(1)
    bench.fleet.drain(1)
    assert not bench.fleet.can_serve
    await bench.fleet.tend(1)
    assert bench.states() == {1: "draining"}
    bench.fleet.undrain(1)
    bench.fleet.undrain(1)
    assert bench.fleet.wake(1).is_set()
    await bench.fleet.tend(1)
    assert bench.fleet.can_serve


async def test_the_summary_says_what_the_snapshot_says(bench: FleetBench) -> None:
    await bench.serve(1, 2, 3)
    bench.fleet.drain(2)
    bench.engine.made[2].end(None)
    await asyncio.sleep(0)
    summary, snapshot = bench.fleet.summary(), bench.fleet.snapshot()
    assert summary.backends == snapshot.counts()
    assert summary.backends["total"] == 3
    assert summary.backends["draining"] == summary.backends["unhealthy"] == summary.backends["healthy"] == 1
    assert (summary.status, summary.reason) == (snapshot.status, snapshot.reason)
    assert (summary.status, summary.reason) == ("degraded", "1 of 3 backends can serve")


async def test_what_is_shown_of_a_backend_is_plain_json(bench: FleetBench) -> None:
    await bench.serve(1)
    row = bench.fleet.snapshot().backends[0].to_json()
    assert json.loads(json.dumps(row)) == {**row, "models": ["m"], "gpus": list(row["gpus"]), "gpu_signs": []}
    assert row["gpus"][0]["temperature_c"] == 52
    assert "token-of-1" not in str(row)


async def test_a_listener_that_fails_stops_nobody(bench: FleetBench) -> None:
    def fail(event: FleetEvent) -> None:
        raise RuntimeError("onlooker")

    unsubscribe = bench.fleet.events.subscribe(fail)
    await bench.serve(1)
    assert bench.states() == {1: "healthy"}
    unsubscribe()
    unsubscribe()


async def test_the_jobs_find_probe_and_forget_by_themselves() -> None:
    """sync.py polls, probe.py follows: an instance is healthy without anybody calling tend."""
    bench = FleetBench(poll_interval_s=0.01, probe_interval_s=0.01)
    jobs = Tasks("jobs")
    async with bench.fleet:
        probe = ProbeJob(bench.fleet)
        sync = SyncJob(bench.fleet)
        bench.account.instances = [make_instance(id=1)]
        await bench.fleet.sync()
        probe.start()
        jobs.spawn(sync.run(), name="sync")
        async with asyncio.timeout(30):
            while bench.states() != {1: "healthy"}:
                bench.happened.clear()
                await bench.happened.wait()
        bench.account.instances = [make_instance(id=2)]
        sync.poke()
        await bench.until(BackendRemoved(1, "no longer in the account"))
        async with asyncio.timeout(30):
            while bench.states() != {2: "healthy"}:
                bench.happened.clear()
                await bench.happened.wait()
        await jobs.aclose()
        await probe.aclose()
        before = bench.account.lists
        await asyncio.sleep(0.03)
        assert bench.account.lists == before


async def test_nothing_is_begun_once_the_end_has_begun() -> None:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1)
    bench.fleet.apply((make_instance(id=9),))
    await bench.fleet.tend(1)
    assert 9 not in bench.states()
    assert [e.after for e in bench.events if isinstance(e, StateChanged)][-1] == "removing"


async def test_who_is_in_a_hurry_does_not_wait_for_labels() -> None:
    """A second signal during the last calls: a label call that hangs holds the end up for a second at most."""
    release = threading.Event()
    bench = FleetBench()
    loop = asyncio.get_running_loop()
    async with bench.fleet:
        await bench.serve(1)
        await bench.until(LabelWritten(1, "proxied"))
        bench.account.label_hang = release
        began = loop.time()
        loop.call_later(0.05, bench.fleet.hurry)
    assert loop.time() - began < 5
    release.set()
