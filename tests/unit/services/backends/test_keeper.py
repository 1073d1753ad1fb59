"""Looking after one backend, round by round, with an instance in memory and a clock by hand."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import MODELS_EVERY
from vastproxy.services.backends.keeper import Keeper
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.state import Event, State
from vastproxy.services.errors import TunnelLost, TunnelRefused
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Path
from vastproxy.settings import Settings
from vastproxy.settings.model import FleetSettings, TunnelSettings

#: How long a stream takes to open decides here, and is not to be what the machine was busy with.
pytestmark = pytest.mark.virtual_time

GONE = TunnelLost("connection refused")


class Bench:
    """One keeper on a bench."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.engine = MemoryEngine()
        self.tasks = Tasks("bench")
        self.paths: list[Path | None] = []
        settings = Settings(
            tunnels=TunnelSettings(paths="one", backoff_min_s=5, backoff_max_s=300, upgrade_interval_s=30),
            fleet=FleetSettings(unhealthy_after=3, probe_interval_s=5),
        )
        self.tools = KeeperTools(
            self.engine,
            settings,
            self.tasks,
            lambda: self.now,
            random.Random(1),
            lambda backend, path, detail: self.paths.append(path),
        )
        self.keep()

    def keep(self, **over: Any) -> None:
        self.backend = Backend(
            make_instance(id=7, **over),
            token="t",
            now=self.now,
            last_seen=1,
            on_event=lambda backend, before, event, detail: None,
        )
        self.keeper = Keeper(self.backend, self.tools)

    async def tend(self, *, after_s: float = 0.0) -> State:
        self.now += after_s
        await self.keeper.tend()
        return self.backend.state

    async def settle(self) -> None:
        """Let what was spawned finish, and what that sets off."""
        await asyncio.sleep(0)
        while len(self.tasks):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.keeper.aclose()
    await bench.settle()
    await bench.tasks.aclose()


async def test_one_round_from_nothing_to_healthy(bench: Bench) -> None:
    assert await bench.tend() is State.HEALTHY
    backend = bench.backend
    assert backend.available
    assert backend.engine is not None
    assert (backend.engine.kind, backend.engine.port, backend.models) == ("vllm", 18000, ("m",))
    assert backend.gpus is not None
    assert backend.gpus.gpus[0].temperature_c == 52
    assert bench.paths == [Path.DIRECT]


async def test_a_failed_connection_is_not_repeated_before_the_pause_is_over(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE, Path.RELAY: GONE}
    assert await bench.tend() is State.CONNECTING
    tries = len(bench.engine.tried)
    await bench.tend(after_s=4.9)
    assert len(bench.engine.tried) == tries
    await bench.tend(after_s=10)
    assert len(bench.engine.tried) == 2 * tries
    assert "connection refused" in bench.backend.detail


async def test_pauses_grow_and_a_success_forgets_them(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE, Path.RELAY: GONE}
    for _ in range(8):
        await bench.tend(after_s=400)
    tries = len(bench.engine.tried)
    await bench.tend(after_s=150)
    assert len(bench.engine.tried) == tries
    bench.engine.refusals = {}
    assert await bench.tend(after_s=400) is State.HEALTHY


async def test_a_refusal_says_why(bench: Bench) -> None:
    no = TunnelRefused("the key is not accepted")
    bench.engine.refusals = {Path.DIRECT: no, Path.RELAY: no}
    await bench.tend()
    assert "the key is not accepted" in bench.backend.detail


async def test_a_lost_tunnel_takes_it_out_at_once_and_asks_for_a_round(bench: Bench) -> None:
    await bench.tend()
    bench.engine.made[0].end(GONE)
    await asyncio.sleep(0)
    assert not bench.backend.available
    assert bench.backend.state is State.UNHEALTHY
    assert bench.keeper.wake.is_set()
    assert bench.paths == [Path.DIRECT, None]
    assert await bench.tend() is State.HEALTHY


async def test_over_the_relay_it_looks_for_the_direct_path_and_moves_there(bench: Bench) -> None:
    """The tunnel over the relay ends only when nothing is carried any more."""
    bench.engine.refusals = {Path.DIRECT: GONE}
    await bench.tend()
    relay = bench.engine.made[0]
    busy = await bench.backend.open(18000)
    await bench.tend(after_s=31)
    await bench.settle()
    assert bench.backend.tunnel is relay
    bench.engine.refusals = {}
    await bench.tend(after_s=31)
    await bench.settle()
    assert bench.backend.tunnel is bench.engine.made[1]
    assert bench.backend.available
    assert relay.is_alive
    busy.abort()
    await bench.settle()
    assert not relay.is_alive
    assert bench.paths == [Path.RELAY, Path.DIRECT]


async def test_a_closed_port_is_unhealthy_at_once_and_the_engine_is_looked_for_again(bench: Bench) -> None:
    await bench.tend()
    bench.engine.inside.listening = False
    assert await bench.tend() is State.UNHEALTHY
    assert await bench.tend() is State.UNHEALTHY
    assert "no inference engine answers" in bench.backend.detail
    bench.engine.inside.listening = True
    assert await bench.tend() is State.HEALTHY


async def test_bad_health_needs_a_streak(bench: Bench) -> None:
    await bench.tend()
    bench.engine.inside.status["/health"] = 500
    assert [await bench.tend() for _ in range(3)] == [State.HEALTHY, State.HEALTHY, State.UNHEALTHY]


async def test_traffic_that_is_answered_outweighs_bad_health(bench: Bench) -> None:
    await bench.tend()
    bench.engine.inside.status["/health"] = 500
    engine = bench.backend.engine
    assert engine is not None
    engine.in_flight = 1
    for _ in range(6):
        engine.has_answered = True
        assert await bench.tend(after_s=5) is State.HEALTHY
    engine.in_flight = 0
    assert [await bench.tend(after_s=5) for _ in range(3)][-1] is State.UNHEALTHY


async def test_an_engine_that_does_not_take_our_token_is_not_served(bench: Bench) -> None:
    bench.engine.inside.status["/v1/models"] = 401
    assert await bench.tend() is State.UNHEALTHY
    assert "does not accept our token" in bench.backend.detail


async def test_models_are_read_now_and_then(bench: Bench) -> None:
    for _ in range(MODELS_EVERY):
        await bench.tend()
    bench.engine.inside.answers["/v1/models"] = b'{"object": "list", "data": [{"id": "new"}]}'
    await bench.tend()
    assert bench.backend.models == ("new",)


async def test_models_that_cannot_be_read_stay_as_they_were(bench: Bench) -> None:
    for _ in range(MODELS_EVERY):
        await bench.tend()
    bench.engine.inside.answers["/v1/models"] = b"garbage"
    assert await bench.tend() is State.HEALTHY
    assert bench.backend.models == ("m",)


async def test_gpus_are_read_at_once_over_a_new_tunnel_and_forgotten_with_it(bench: Bench) -> None:
    """What was behind the old one may be another machine."""
    await bench.tend()
    bench.engine.made[0].end(GONE)
    await asyncio.sleep(0)
    assert bench.backend.gpus is None
    await bench.tend()
    assert bench.backend.gpus is not None
    assert len(bench.engine.inside.commands) == 2


async def test_a_hung_nvidia_smi_is_left_alone_for_a_while_and_harms_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.engine.inside.command = TimeoutError()
    for _ in range(5):
        assert await bench.tend() is State.HEALTHY
    assert len(bench.engine.inside.commands) == 1
    assert bench.backend.gpus is not None
    assert "does not answer" in (bench.backend.gpus.error or "")
    assert [str(sign) for sign in bench.backend.gpu_signs] == ["GPU: does not answer"]
    assert "[backend=7] GPU: does not answer" in caplog.text


async def test_amd_is_asked_with_its_own_programs(bench: Bench) -> None:
    bench.keep(gpu_arch="amd")
    assert await bench.tend() is State.HEALTHY
    assert len(bench.engine.inside.commands) == 1
    assert "amd-smi" in bench.engine.inside.commands[0]


async def test_an_image_without_sshd_is_never_dialled_and_says_why(bench: Bench) -> None:
    bench.keep(image_runtype="args")
    assert await bench.tend() is State.CONNECTING
    assert await bench.tend(after_s=10_000) is State.CONNECTING
    assert bench.engine.tried == []
    assert "without sshd" in bench.backend.detail


async def test_a_new_address_is_tried_at_once(bench: Bench) -> None:
    bench.engine.refusals = {Path.DIRECT: GONE, Path.RELAY: GONE}
    await bench.tend()
    bench.engine.refusals = {}
    bench.keeper.update(make_instance(id=7, ssh_port=5))
    assert bench.keeper.wake.is_set()
    assert await bench.tend() is State.HEALTHY


async def test_another_start_of_the_instance_ends_the_old_tunnel(bench: Bench) -> None:
    await bench.tend()
    bench.keeper.update(make_instance(id=7, start_date=1.0))
    await bench.settle()
    assert not bench.engine.made[0].is_alive
    assert await bench.tend() is State.HEALTHY


async def test_nothing_is_begun_for_an_instance_that_is_gone(bench: Bench) -> None:
    bench.backend.step(Event.VANISHED, bench.now)
    assert await bench.tend() is State.REMOVING
    assert bench.engine.tried == []


async def test_leaving_waits_for_streams_and_not_for_ever(bench: Bench) -> None:
    await bench.tend()
    busy = await bench.backend.open(18000)
    bench.backend.step(Event.VANISHED, bench.now)
    await bench.keeper.leave(grace_s=0.01)
    assert not bench.engine.made[0].is_alive
    assert not busy.may_serve()


async def test_the_end_closes_a_retired_tunnel_too_though_nothing_can_be_started(bench: Bench) -> None:
    """The fleet ends its tasks first. A stream that still runs on the old path must not keep that open."""
    bench.engine.refusals = {Path.DIRECT: GONE}
    await bench.tend()
    await bench.backend.open(18000)
    bench.engine.refusals = {}
    await bench.tend(after_s=31)
    await bench.settle()
    relay, direct = bench.engine.made
    await bench.tasks.aclose()
    await bench.keeper.aclose()
    assert not relay.is_alive
    assert not direct.is_alive
