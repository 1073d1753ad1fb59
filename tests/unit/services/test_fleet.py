"""The facade, with instances in memory and an account that is a list."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine
from vastproxy.jobs.probe import ProbeJob
from vastproxy.jobs.sync import SyncJob
from vastproxy.services.errors import NoBackendAvailable
from vastproxy.services.events import (
    AccountRead,
    BackendAdded,
    BackendRemoved,
    FleetEvent,
    LabelWritten,
    PollFailed,
    StateChanged,
)
from vastproxy.services.fleet import Fleet
from vastproxy.services.tasks import Tasks
from vastproxy.settings import Settings
from vastproxy.settings.model import FleetSettings
from vastproxy.vastai import (
    Instance,
    InstanceList,
    VastClient,
    VastNotFound,
    VastRejected,
    VastUnauthorized,
    VastUnavailable,
)


class Account:
    """The two calls that a fleet makes, answered from attributes. Called from threads, as the client is."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.skipped = 0
        self.labels: list[tuple[int, str]] = []
        self.list_error: Exception | None = None
        self.label_error: Exception | None = None
        self.label_refused: int | None = None
        self.label_hang: threading.Event | None = None
        self.lists = 0
        self.closed = False

    def list_instances(self, *, fresh: bool = False) -> InstanceList:
        self.lists += 1
        if self.list_error is not None:
            raise self.list_error
        return InstanceList(self.instances, skipped=self.skipped)

    def label_instance(self, instance_id: int, label: str) -> None:
        if self.label_hang is not None:
            self.label_hang.wait(20)
        if instance_id == self.label_refused:
            raise VastRejected("not this one", "invalid_args")
        if self.label_error is not None:
            raise self.label_error
        self.labels.append((instance_id, label))

    def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, **fleet: Any) -> None:
        self.account = Account()
        self.engine = MemoryEngine()
        settings = Settings(fleet=FleetSettings(**fleet))
        self.fleet = Fleet(settings, cast(VastClient, self.account), self.engine)
        self.events: list[FleetEvent] = []
        self.happened = asyncio.Event()
        self.fleet.events.subscribe(self._listen)

    def _listen(self, event: FleetEvent) -> None:
        self.events.append(event)
        self.happened.set()

    async def until(self, event: FleetEvent) -> None:
        async with asyncio.timeout(5):
            while event not in self.events:
                self.happened.clear()
                await self.happened.wait()

    async def serve(self, *ids: int) -> None:
        """These instances, found and healthy."""
        self.account.instances = [make_instance(id=id) for id in ids]
        await self.fleet.sync()
        for id in ids:
            await self.fleet.tend(id)

    def states(self) -> dict[int, str]:
        return {backend.id: backend.state for backend in self.fleet.snapshot().backends}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.fleet:
        yield bench


async def test_found_tended_labelled_and_leased_in_turn(bench: Bench) -> None:
    await bench.serve(2, 1)
    leases = [bench.fleet.lease() for _ in range(3)]
    assert [lease.backend.id for lease in leases] == [1, 2, 1]
    assert leases[0].backend.in_flight == 2
    for lease in leases:
        lease.release()
        lease.release()
    assert leases[0].backend.in_flight == 0
    await bench.until(LabelWritten(1, "proxied"))
    await bench.until(LabelWritten(2, "proxied"))
    assert bench.fleet.snapshot().backends[0].label == "proxied"
    assert bench.fleet.models() == {"m": (1, 2)}


async def test_labels_are_cleared_when_a_backend_falls_ill_and_at_the_end() -> None:
    bench = Bench()
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
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.account.label_error = VastUnauthorized("missing scope", "auth_error")
    await bench.serve(1, 2)
    for _ in range(3):
        await bench.fleet.sync()
        await asyncio.sleep(0.02)
    assert bench.states() == {1: "healthy", 2: "healthy"}
    assert sum("may not write labels" in line for line in caplog.messages) == 1


async def test_a_label_that_failed_is_written_after_the_next_list(bench: Bench) -> None:
    bench.account.label_error = VastUnavailable("502", "bad_gateway")
    await bench.serve(1)
    await asyncio.sleep(0.02)
    bench.account.label_error = None
    await bench.fleet.sync()
    await bench.until(LabelWritten(1, "proxied"))


async def test_a_label_that_is_rejected_holds_up_no_other(bench: Bench) -> None:
    bench.account.label_refused = 1
    await bench.serve(1, 2)
    await bench.until(LabelWritten(2, "proxied"))
    assert bench.account.labels == [(2, "proxied")]


async def test_a_blocked_address_is_not_taken_for_a_missing_right(bench: Bench) -> None:
    bench.account.label_error = VastUnauthorized("a web page", "edge_blocked", http_status=403)
    await bench.serve(1)
    await asyncio.sleep(0.02)
    bench.account.label_error = None
    await bench.fleet.sync()
    await bench.until(LabelWritten(1, "proxied"))


async def test_an_instance_that_vanished_needs_no_label(bench: Bench) -> None:
    bench.account.label_error = VastNotFound("gone", "no_such_instance")
    await bench.serve(1)
    await bench.until(LabelWritten(1, "proxied"))


async def test_the_numbers_of_the_account_are_told_when_they_change(bench: Bench) -> None:
    bench.account.instances = [make_instance(id=1), make_instance(id=2, actual_status="exited")]
    for _ in range(3):
        await bench.fleet.sync()
    assert [event for event in bench.events if isinstance(event, AccountRead)] == [AccountRead(2, 1)]


async def test_an_api_that_fails_empties_nothing(bench: Bench) -> None:
    await bench.serve(1)
    bench.account.list_error = VastUnavailable("vast.ai answered 502", "bad_gateway")
    for _ in range(5):
        await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}
    snapshot = bench.fleet.snapshot()
    assert (snapshot.status, snapshot.vast_api.status) == ("degraded", "unhealthy")
    assert "502" in (snapshot.reason or "")
    assert PollFailed("vast.ai answered 502") in bench.events


async def test_a_list_with_rows_that_could_not_be_read_proves_no_absence(bench: Bench) -> None:
    await bench.serve(1)
    bench.account.instances, bench.account.skipped = [], 1
    for _ in range(5):
        await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}


async def test_gone_after_two_complete_lists_and_back_as_a_new_backend(bench: Bench) -> None:
    await bench.serve(1)
    bench.account.instances = []
    await bench.fleet.sync()
    assert bench.states() == {1: "healthy"}
    await bench.fleet.sync()
    assert bench.states() == {}
    await bench.until(BackendRemoved(1, "no longer in the account"))
    with pytest.raises(NoBackendAvailable, match="no running instance"):
        bench.fleet.lease()
    await bench.serve(1)
    assert bench.states() == {1: "healthy"}
    assert bench.events.count(BackendAdded(1)) == 2


async def test_what_is_tried_is_not_leased_again(bench: Bench) -> None:
    await bench.serve(1, 2)
    assert bench.fleet.lease(exclude={1}).backend.id == 2
    with pytest.raises(NoBackendAvailable, match="2 backends were tried"):
        bench.fleet.lease(exclude={1, 2})
    assert bench.fleet.lease(pin=2).backend.id == 2


async def test_why_nobody_can_serve() -> None:
    bench = Bench()
    async with bench.fleet:
        assert bench.fleet.snapshot().reason == "the instance list has not been read yet"
        bench.account.list_error = VastUnauthorized("Invalid user key", "auth_error")
        await bench.fleet.sync()
        assert "Invalid user key" in (bench.fleet.snapshot().reason or "")
        bench.account.list_error = None
        bench.engine.inside.listening = False
        await bench.serve(1)
        assert bench.fleet.snapshot().reason == "none of 1 backends can serve"


async def test_a_drained_backend_comes_back_after_undrain_and_a_probe(bench: Bench) -> None:
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


async def test_a_listener_that_fails_stops_nobody(bench: Bench) -> None:
    def fail(event: FleetEvent) -> None:
        raise RuntimeError("onlooker")

    unsubscribe = bench.fleet.events.subscribe(fail)
    await bench.serve(1)
    assert bench.states() == {1: "healthy"}
    unsubscribe()
    unsubscribe()


async def test_the_jobs_find_probe_and_forget_by_themselves() -> None:
    """sync.py polls, probe.py follows: an instance is healthy without anybody calling tend."""
    bench = Bench(poll_interval_s=0.01, probe_interval_s=0.01)
    jobs = Tasks("jobs")
    async with bench.fleet:
        probe = ProbeJob(bench.fleet)
        sync = SyncJob(bench.fleet)
        bench.account.instances = [make_instance(id=1)]
        await bench.fleet.sync()
        probe.start()
        jobs.spawn(sync.run(), name="sync")
        async with asyncio.timeout(5):
            while bench.states() != {1: "healthy"}:
                bench.happened.clear()
                await bench.happened.wait()
        bench.account.instances = [make_instance(id=2)]
        sync.poke()
        await bench.until(BackendRemoved(1, "no longer in the account"))
        async with asyncio.timeout(5):
            while bench.states() != {2: "healthy"}:
                bench.happened.clear()
                await bench.happened.wait()
        await jobs.aclose()
        await probe.aclose()
        before = bench.account.lists
        await asyncio.sleep(0.03)
        assert bench.account.lists == before


async def test_nothing_is_begun_once_the_end_has_begun() -> None:
    bench = Bench()
    async with bench.fleet:
        await bench.serve(1)
    bench.fleet.apply((make_instance(id=9),))
    await bench.fleet.tend(1)
    assert 9 not in bench.states()
    assert [e.after for e in bench.events if isinstance(e, StateChanged)][-1] == "removing"


async def test_who_is_in_a_hurry_does_not_wait_for_labels() -> None:
    """A second signal during the last calls: a label call that hangs holds the end up for a second at most."""
    release = threading.Event()
    bench = Bench()
    loop = asyncio.get_running_loop()
    async with bench.fleet:
        await bench.serve(1)
        await bench.until(LabelWritten(1, "proxied"))
        bench.account.label_hang = release
        began = loop.time()
        loop.call_later(0.05, bench.fleet.hurry)
    assert loop.time() - began < 5
    release.set()
