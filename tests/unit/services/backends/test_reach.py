"""Two ways to one instance: whatever happens to one, new work takes the best that is left at once."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine, MemoryTunnel
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import QUEUE_S
from vastproxy.services.backends.keeper import Keeper
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.refusals import NEW_KEY_S, SOON_S
from vastproxy.services.backends.state import Event, State
from vastproxy.services.errors import BackendConnectError, KeyRefused, KeyUnavailable, TunnelLost
from vastproxy.services.snapshot import snapshot_backend
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import HostKeyRefused
from vastproxy.services.tunnels.paths import PathState
from vastproxy.settings import Settings
from vastproxy.settings.model import TunnelSettings

#: How long a stream takes to open decides here, and is not to be what the machine was busy with.
pytestmark = pytest.mark.virtual_time

GONE = TunnelLost("connection reset")


class Bench:
    """One keeper whose instance has both paths, and a clock by hand."""

    def __init__(self, **tunnels: Any) -> None:
        self.now = 1000.0
        self.engine = MemoryEngine()
        self.tasks = Tasks("bench")
        self.told: list[tuple[Path | None, str]] = []
        self.states: list[State] = []
        self.tools = KeeperTools(
            self.engine,
            Settings(tunnels=TunnelSettings(**tunnels)),
            self.tasks,
            lambda: self.now,
            random.Random(1),
            lambda backend, path, detail: self.told.append((path, detail)),
        )
        self.backend = Backend(
            make_instance(id=7),
            token="t",
            now=self.now,
            last_seen=1,
            on_event=lambda backend, before, event, detail: self.states.append(backend.state),
        )
        self.keeper = Keeper(self.backend, self.tools)
        self.reach = self.keeper.reach

    async def tend(self, *, after_s: float = 0.0) -> State:
        self.now += after_s
        await self.keeper.tend()
        await self.settle()
        return self.backend.state

    async def settle(self) -> None:
        """Let what was spawned finish, and what that sets off."""
        for _ in range(5):
            await asyncio.sleep(0)
        while len(self.tasks):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    async def end(self, tunnel: MemoryTunnel) -> None:
        tunnel.end(GONE)
        await asyncio.sleep(0)

    def tunnel(self, path: Path) -> MemoryTunnel:
        """The newest one over this path."""
        return [tunnel for tunnel in self.engine.made if tunnel.address.path is path][-1]

    @property
    def paths(self) -> list[Path | None]:
        return [path for path, _ in self.told]

    async def aclose(self) -> None:
        await self.keeper.aclose()
        await self.settle()
        await self.tasks.aclose()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.aclose()


async def test_both_paths_are_kept_and_the_direct_one_is_used(bench: Bench) -> None:
    assert await bench.tend() is State.HEALTHY
    assert [len(bench.reach.carriers(path)) for path in Path] == [1, 1]
    assert bench.backend.tunnel is bench.tunnel(Path.DIRECT)
    assert bench.paths[-1] is Path.DIRECT


async def test_losing_the_direct_path_costs_nothing(bench: Bench) -> None:
    """New work takes the relay in the same moment, and the backend is never out of the pool."""
    await bench.tend()
    bench.states.clear()
    await bench.end(bench.tunnel(Path.DIRECT))
    assert bench.backend.available
    assert bench.backend.tunnel is bench.tunnel(Path.RELAY)
    assert bench.backend.engine is not None
    assert bench.reach.wake.is_set()
    await bench.tend()
    assert bench.backend.tunnel is bench.tunnel(Path.DIRECT)
    assert set(bench.states) <= {State.HEALTHY}


async def test_in_the_moment_of_a_loss_work_takes_the_other_path(bench: Bench) -> None:
    """Streams hear of the end before anybody has chosen anew: what they ask again must not meet a dead path."""
    await bench.tend()
    bench.tunnel(Path.DIRECT).end(GONE)
    assert bench.backend.tunnel is bench.tunnel(Path.DIRECT)
    assert bench.backend.available
    connection = await bench.backend.open(18000)
    assert len(bench.tunnel(Path.RELAY).streams) > 0
    connection.abort()


async def test_a_lost_spare_changes_nothing_and_is_made_again(bench: Bench) -> None:
    await bench.tend()
    told = list(bench.told)
    await bench.end(bench.tunnel(Path.RELAY))
    assert bench.told == told
    assert bench.backend.available
    await bench.tend()
    assert bench.reach.carriers(Path.RELAY)[0].tunnel.is_alive


async def test_nothing_new_is_sent_into_a_path_that_owes_an_answer(bench: Bench) -> None:
    await bench.tend()
    direct = bench.tunnel(Path.DIRECT)
    running = await bench.backend.open(18000)
    bench.states.clear()
    direct.doubt(True)
    assert bench.backend.available
    assert bench.backend.tunnel is bench.tunnel(Path.RELAY)
    assert running.may_serve()
    direct.doubt(False)
    assert bench.backend.tunnel is direct
    assert set(bench.states) <= {State.HEALTHY}
    assert bench.paths[-2:] == [Path.RELAY, Path.DIRECT]
    running.abort()


async def test_who_waits_for_a_stream_on_a_stalled_path_is_sent_elsewhere_at_once(bench: Bench) -> None:
    """Nothing was sent, so the same request may take the other path."""
    await bench.tend()
    direct = bench.tunnel(Path.DIRECT)
    direct.gate.clear()
    asyncio.get_running_loop().call_soon(direct.doubt, True)
    with pytest.raises(BackendConnectError, match="does not answer") as failed:
        await bench.backend.open(18000)
    assert failed.value.way_lost
    direct.gate.set()


async def test_idle_connections_of_a_stalled_path_are_not_used_again(bench: Bench) -> None:
    await bench.tend()
    kept = await bench.backend.open(18000)
    assert kept.home is not None
    kept.home.release(kept)
    assert bench.backend.ways[0].idle == 1
    bench.tunnel(Path.DIRECT).doubt(True)
    bench.tunnel(Path.DIRECT).doubt(False)
    assert bench.backend.take(18000) is None


async def test_a_backend_that_answers_over_no_path_gets_no_work_until_it_does(bench: Bench) -> None:
    await bench.tend()
    bench.tunnel(Path.DIRECT).doubt(True)
    bench.tunnel(Path.RELAY).doubt(True)
    assert not bench.backend.available
    assert bench.backend.state is State.UNHEALTHY
    assert bench.reach.is_stalled
    assert "does not answer" in bench.backend.detail
    assert bench.backend.engine is not None
    bench.tunnel(Path.RELAY).doubt(False)
    assert bench.reach.wake.is_set()
    assert await bench.tend() is State.HEALTHY


async def test_a_stalled_path_that_ends_is_dialled_again(bench: Bench) -> None:
    await bench.tend()
    for path in Path:
        bench.tunnel(path).doubt(True)
    made = len(bench.engine.made)
    for tunnel in bench.engine.made[:made]:
        await bench.end(tunnel)
    assert bench.backend.engine is None
    assert await bench.tend() is State.HEALTHY
    assert len(bench.engine.made) == made + 2


async def test_one_path_that_cannot_be_had_keeps_nobody_waiting(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE}
    assert await bench.tend() is State.HEALTHY
    assert bench.backend.tunnel is bench.tunnel(Path.RELAY)
    assert bench.reach.refusals[Path.DIRECT] == "connection reset"
    assert bench.reach.records[Path.DIRECT].state is PathState.DOWN


async def test_each_path_pauses_for_itself(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE}
    for _ in range(6):
        await bench.tend(after_s=400)
    tries = len(bench.engine.tried)
    await bench.end(bench.tunnel(Path.RELAY))
    bench.now += 31
    assert await bench.tend() is State.HEALTHY
    assert [address.path for address in bench.engine.tried[tries:]] == [Path.RELAY]


async def test_in_the_mode_one_the_relay_goes_when_the_direct_path_comes() -> None:
    bench = Bench(paths="one")
    bench.engine.refusals = {Path.DIRECT: GONE}
    await bench.tend()
    relay = bench.tunnel(Path.RELAY)
    bench.engine.refusals = {}
    await bench.tend(after_s=31)
    assert bench.backend.tunnel is bench.tunnel(Path.DIRECT)
    assert not relay.is_alive
    assert bench.reach.carriers(Path.RELAY) == ()
    await bench.aclose()


async def test_in_the_mode_one_a_stalled_path_calls_for_the_other() -> None:
    bench = Bench(paths="one")
    await bench.tend()
    assert bench.reach.carriers(Path.RELAY) == ()
    bench.tunnel(Path.DIRECT).doubt(True)
    assert await bench.tend() is State.HEALTHY
    assert bench.backend.tunnel is bench.tunnel(Path.RELAY)
    bench.tunnel(Path.DIRECT).doubt(False)
    await bench.settle()
    assert bench.backend.tunnel is bench.tunnel(Path.DIRECT)
    assert bench.reach.carriers(Path.RELAY) == ()
    await bench.aclose()


async def test_much_work_gets_another_connection_and_gives_it_back() -> None:
    bench = Bench(streams_per_connection=2, max_connections=2)
    await bench.tend()
    busy = [await bench.backend.open(18000) for _ in range(2)]
    await bench.tend()
    assert len(bench.backend.ways) == 2
    busy += [await bench.backend.open(18000) for _ in range(2)]
    assert [way.busy for way in bench.backend.ways] == [2, 2]
    await bench.tend()
    assert len(bench.backend.ways) == 2
    for connection in busy:
        connection.abort()
    await bench.tend()
    assert len(bench.backend.ways) == 1
    await bench.aclose()


async def test_a_queue_on_the_second_connection_is_seen_and_keeps_it() -> None:
    """Probes go over the first; who serves from kept connections on the second opens nothing there."""
    bench = Bench(streams_per_connection=2, max_connections=2)
    await bench.tend()
    busy = [await bench.backend.open(18000) for _ in range(2)]
    await bench.tend()
    await bench.tend()
    second = bench.backend.ways[1]
    assert isinstance(second.tunnel, MemoryTunnel)
    for _ in range(2):
        second.tunnel.gate.clear()
        asyncio.get_running_loop().call_later(4 * QUEUE_S, second.tunnel.gate.set)
        await bench.tend()
    assert second.is_queueing
    for connection in busy:
        connection.abort()
    await bench.tend()
    assert len(bench.backend.ways) == 2
    await bench.aclose()


async def test_one_of_several_connections_may_end_or_stall_and_the_path_stays() -> None:
    bench = Bench(streams_per_connection=1, max_connections=3)
    await bench.tend()
    busy = []
    for _ in range(3):
        busy.append(await bench.backend.open(18000))
        await bench.tend()
    first, second, third = (way.tunnel for way in bench.backend.ways)
    assert isinstance(first, MemoryTunnel)
    assert isinstance(second, MemoryTunnel)
    told = list(bench.told)
    first.doubt(True)
    assert [way.tunnel for way in bench.backend.ways] == [second, third]
    await bench.end(second)
    assert [way.tunnel for way in bench.backend.ways] == [third]
    assert bench.reach.records[Path.DIRECT].state is PathState.UP
    assert bench.told == told
    await bench.aclose()


async def test_a_new_instance_has_its_time_to_learn_our_key(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """For three minutes it is no warning, and it is tried again soon."""
    caplog.set_level(logging.INFO)
    no = KeyRefused("instance 7 does not accept the key; attach it with: vastai attach ssh 7 KEY")
    bench.engine.refusals = {Path.DIRECT: no, Path.RELAY: no}
    tries = 0
    while bench.now < 1000 + NEW_KEY_S - SOON_S:
        await bench.tend(after_s=SOON_S)
        assert len(bench.engine.tried) > tries
        tries = len(bench.engine.tried)
    assert "may take 3 minutes" in bench.backend.detail
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    await bench.tend(after_s=3 * SOON_S)
    assert bench.backend.detail == str(no)  # both paths say the same, once
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2  # each path once
    await bench.tend(after_s=1000)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


async def test_a_changed_host_key_is_told_loudly_and_tried_again_soon(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    no = HostKeyRefused("HOST KEY CHANGED: …: vastproxy trust 7", path=Path.DIRECT, presented="k")
    bench.engine.refusals = {Path.DIRECT: no, Path.RELAY: no}
    for _ in range(8):
        await bench.tend(after_s=400)
    assert "vastproxy trust 7" in bench.backend.detail
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    bench.engine.refusals = {}
    assert await bench.tend(after_s=SOON_S) is State.HEALTHY


async def test_another_machine_behind_the_id_is_dialled_and_its_predecessor_forgotten(bench: Bench) -> None:
    await bench.tend()
    old = list(bench.engine.made)
    bench.keeper.update(make_instance(id=7, start_date=1.0))
    await bench.settle()
    assert not any(tunnel.is_alive for tunnel in old)
    assert bench.engine.recycled_ids == [bench.backend.instance.identity]
    assert await bench.tend() is State.HEALTHY
    assert len(bench.engine.made) == 4


async def test_only_the_path_whose_address_changed_is_tried_at_once(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE, Path.RELAY: GONE}
    await bench.tend()
    tried = len(bench.engine.tried)
    bench.keeper.update(make_instance(id=7, ssh_port=5))
    await bench.tend()
    assert {address.path for address in bench.engine.tried[tried:]} == {Path.RELAY}


async def test_paths_that_somebody_has_mended_are_dialled_without_their_pauses(bench: Bench) -> None:
    """One path, or both; an attempt under way begins anew, and one that is up stays."""
    for path in Path:
        bench.engine.refusals[path] = HostKeyRefused("HOST KEY CHANGED", path=path, presented="ssh-ed25519 B")
    await bench.tend()
    await bench.tend(after_s=0.1)
    tried = len(bench.engine.tried)
    await bench.tend(after_s=0.1)
    assert len(bench.engine.tried) == tried, "both pause"
    bench.reach.wake.clear()
    del bench.engine.refusals[Path.RELAY]
    bench.reach.redial([Path.RELAY])
    assert bench.reach.wake.is_set()
    await bench.tend()
    assert [address.path for address in bench.engine.tried[tried:]] == [Path.RELAY]
    bench.engine.refusals.clear()
    bench.reach.redial()
    await bench.tend()
    assert [address.path for address in bench.engine.tried[tried + 1 :]] == [Path.DIRECT]
    assert len(bench.backend.ways) > 0
    assert [record.failures for record in bench.reach.records.values()] == [0, 0]


async def test_an_instance_without_an_address_says_so_and_is_served_when_it_has_one(bench: Bench) -> None:
    nowhere = make_instance(id=7, ports=None, ssh_host=None, ssh_port=None, public_ipaddr=None)
    bench.backend.instance = nowhere
    assert await bench.tend() is State.CONNECTING
    assert "no SSH address" in bench.backend.detail
    bench.keeper.update(make_instance(id=7))
    assert await bench.tend() is State.HEALTHY


async def test_a_tunnel_that_comes_when_the_instance_is_gone_is_closed(bench: Bench) -> None:
    bench.engine.gate.clear()
    round_ = bench.tasks.spawn(bench.keeper.tend(), name="round")
    for _ in range(3):
        await asyncio.sleep(0)
    bench.backend.step(Event.VANISHED, bench.now)
    await bench.keeper.leave(grace_s=1)
    bench.engine.gate.set()
    await round_
    await bench.settle()
    assert not any(tunnel.is_alive for tunnel in bench.engine.made)


async def test_what_is_shown_of_the_paths(bench: Bench) -> None:
    bench.engine.refusals = {Path.RELAY: GONE}
    await bench.tend()
    busy = await bench.backend.open(18000)
    bench.tunnel(Path.DIRECT).doubt(True)
    direct, relay = snapshot_backend(bench.backend, bench.reach, bench.now).to_json()["paths"]
    assert direct == {
        "path": "direct",
        "state": "doubted",
        "address": "203.0.113.7:41022",
        "connections": 1,
        "streams": 1,
        "error": None,
    }
    assert (relay["state"], relay["connections"], relay["error"]) == ("down", 0, "connection reset")
    busy.abort()


async def test_a_row_without_a_start_is_not_another_machine(bench: Bench) -> None:
    await bench.tend()
    bench.keeper.update(make_instance(id=7, start_date=None))
    await bench.settle()
    assert all(tunnel.is_alive for tunnel in bench.engine.made)
    assert bench.engine.recycled_ids == []


async def test_a_key_that_an_agent_does_not_give_now_is_asked_for_again_soon(bench: Bench) -> None:
    no = KeyUnavailable("the agent does not answer")
    bench.engine.refusals = {Path.DIRECT: no, Path.RELAY: no}
    for _ in range(8):
        await bench.tend(after_s=400)
    bench.engine.refusals = {}
    assert await bench.tend(after_s=SOON_S) is State.HEALTHY
