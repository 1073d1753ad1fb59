"""What runs inside an instance, seen through an SSH connection: several engines, Caddy, and what breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.engines import FakeEngine
from tests.helpers.plain import PlainEngine
from tests.helpers.raw import ScriptedServer
from tests.helpers.tunnelling import direct, keys_of, target_for
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside import Inside, Look
from vastproxy.services.backends.portal import PORTAL_PORT
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.settings.model import EngineSettings, TunnelSettings
from vastproxy.simulator.caddy import Doors
from vastproxy.simulator.instance import SimulatedInstance
from vastproxy.simulator.simulation import Simulation
from vastproxy.vastai.types import Instance

GOOD, BAD, ABSENT = Observation.GOOD, Observation.BAD, Observation.ABSENT
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class View:
    """The inside of the only instance of a simulation, over SSH."""

    def __init__(self, machine: SimulatedInstance, instance: Instance, tunnel: Tunnel) -> None:
        self.machine = machine
        self.tunnel = tunnel
        self.inside = Inside(
            lambda: instance,
            EngineSettings(health_timeout_s=20.0, detect_timeout_s=20.0),
            token=machine.token,
            unhealthy_after=3,
            proof_s=10.0,
        )

    async def round(self) -> Look:
        return await self.inside.round(TunnelFetch(self.tunnel))


@contextlib.asynccontextmanager
async def viewing(sim: Simulation) -> AsyncIterator[View]:
    (machine,) = sim.instances
    instance = Instance.from_json(sim.account.row(machine.id) or {})
    assert instance is not None
    ssh = AsyncsshEngine(
        TunnelSettings(),
        keys=keys_of(sim.ssh_key_path),
        host_keys=PinnedHostKeys(HostKeyPins(None)),
        username="root",
    )
    target = target_of(instance)
    tunnel = await ssh.connect(target, target.addresses[0])
    try:
        yield View(machine, instance, tunnel)
    finally:
        await tunnel.close()
        await ssh.close()


def show(look: Look) -> list[tuple[str, int, tuple[str, ...], bool]]:
    return [(each.kind, each.port, each.models, each.is_healthy) for each in look.engines]


def asked(view: View, place: int = 0) -> list[str]:
    """What that engine was asked since the last call."""
    requests = view.machine.engines[place].requests
    paths = [request.path for request in requests]
    requests.clear()
    return paths


FIRST, SECOND = ("vllm", 18000, ("Qwen/Qwen3-8B",)), ("sglang", 18001, ("Qwen/Qwen3-4B",))


async def test_two_engines_one_dies_and_is_back_and_the_other_goes_on() -> None:
    async with Simulation(instances=1, engines=["vllm"], second_engine="sglang") as sim, viewing(sim) as view:
        look = await view.round()
        assert (look.observation, show(look)) == (GOOD, [(*FIRST, True), (*SECOND, True)])
        assert [engine.service for engine in look.engines] == ["vLLM API", "SGLang API 2"]
        assert [engine.load is not None for engine in look.engines] == [True, True]
        first, second = look.engines
        await view.machine.engine_down(1)
        look = await view.round()
        assert (look.observation, look.detail, show(look)) == (GOOD, "", [(*FIRST, True), (*SECOND, False)])
        assert second.detail == "port 18001 is closed"
        await view.machine.engine_up(1)
        await view.round()
        look = await view.round()
        assert (look.engines, second.is_healthy) == ((first, second), True)
        await view.machine.engine_down(0)
        assert (await view.round()).observation is GOOD
        await view.machine.engine_down(1)
        assert (await view.round()).observation is ABSENT
        look = await view.round()
        assert look.detail == (
            "its portal has vLLM API on port 18000, but nothing listens there yet: the model may still be loading"
        )
        await view.machine.engine_up(0)
        assert show(await view.round()) == [(*FIRST, True), (*SECOND, False)]
        assert first.is_healthy


@pytest.mark.parametrize(
    ("flavour", "health", "load"),
    [
        ("sglang", "/health", ["/v1/loads"]),
        ("vllm", "/health", ["/metrics"]),
        ("llamacpp", "/health", ["/slots"]),
        ("tgi", "/health", ["/metrics"]),
        ("ollama", "/api/version", ["/api/ps"]),
    ],
)
async def test_a_steady_round_costs_two_requests(flavour: str, health: str, load: list[str]) -> None:
    settings = EngineSettings(load_interval_s=0.001)
    async with Simulation(instances=1, engines=[flavour]) as sim, viewing(sim) as view:
        view.inside = Inside(
            lambda: make_instance(id=view.machine.id),
            settings,
            token=None,
            unhealthy_after=3,
            proof_s=10.0,
        )
        (engine,) = (await view.round()).engines
        assert engine.load is not None
        asked(view)
        for _ in range(3):
            assert (await view.round()).observation is GOOD
            assert asked(view) == [health, *load]


async def test_only_caddy_leads_to_the_engine() -> None:
    async with (
        Simulation(instances=1, engines=["sglang"], doors=Doors.CADDY) as sim,
        viewing(sim) as view,
    ):
        look = await view.round()
        assert (look.observation, show(look)) == (GOOD, [("sglang", 8000, ("Qwen/Qwen3-8B",), True)])
        (engine,) = look.engines
        assert engine.target.needs_token
        assert view.machine.token.encode() in engine.request_lines
        await view.machine.engine_down()
        looks = [await view.round() for _ in range(3)]
        assert [(each.observation, each.detail) for each in looks] == [
            (BAD, "port 8000 is answered by the web gateway: the engine is down")
        ] * 3
        assert not engine.is_healthy
        await view.machine.engine_up()
        assert (await view.round()).engines == (engine,)
        assert engine.is_healthy


async def test_caddy_beside_the_engines_own_port_counts_for_the_same_engine() -> None:
    async with Simulation(instances=1, engines=["vllm"], doors=Doors.BOTH) as sim, viewing(sim) as view:
        look = await view.round()
        assert show(look) == [(*FIRST, True)]
        assert look.engines[0].found.ports == (18000, 8000)
        assert not look.engines[0].target.needs_token


async def test_an_image_without_a_portal_has_engines_all_the_same() -> None:
    async with Simulation(instances=1, engines=["vllm"], second_engine="ollama") as sim, viewing(sim) as view:
        view.machine.programs.has_portal = False
        await view.machine.reboot()
        with pytest.raises(TunnelLost):
            await view.round()
        async with viewing(sim) as again:
            look = await again.round()
            assert [(each.kind, each.port, each.service) for each in look.engines] == [
                ("vllm", 18000, ""),
                ("ollama", 11434, ""),
            ]


async def test_a_connection_that_ends_in_a_round_says_so_and_leaves_nothing_behind() -> None:
    async with Simulation(instances=1, engines=["vllm"], second_engine="sglang") as sim, viewing(sim) as view:
        engines = (await view.round()).engines
        for engine in view.machine.engines:
            engine.freeze()
        going = asyncio.get_running_loop().create_task(view.round())
        async with asyncio.timeout(10):
            while not all(engine.requests[-1].path == "/health" for engine in view.machine.engines):
                await asyncio.sleep(0.005)
            view.machine.drop_connections()
            with pytest.raises(TunnelLost):
                await going
        view.inside.interrupted()
        assert not any(engine.is_healthy for engine in engines)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = b'[{"service": "\x00x", "internal_base_url": ["http://localhost:1"]}, 7, {"internal_base_url": "http://['
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    await writer.drain()


@pytest.mark.parametrize("portal", [hang, hang_up, garble])
async def test_a_broken_portal_hides_no_engine(portal: Handler) -> None:
    plain = PlainEngine()
    tunnel = await plain.connect(target_for(direct(22)), direct(22))
    # The others have so long, too; only a portal that hangs makes it pass.
    settings = EngineSettings(detect_timeout_s=3.0)
    inside = Inside(make_instance, settings, token="t", unhealthy_after=3, proof_s=10.0)
    async with (
        FakeEngine("vllm", models=("a",)) as one,
        FakeEngine("sglang", models=("b",)) as other,
        ScriptedServer(portal) as broken,
    ):
        plain.ports |= {(7, PORTAL_PORT): broken.port, (7, 18000): one.port, (7, 30000): other.port}
        look = await inside.round(TunnelFetch(tunnel))
        assert [(each.port, each.models, each.is_healthy) for each in look.engines] == [
            (18000, ("a",), True),
            (30000, ("b",), True),
        ]
        asked_portal = broken.connections
        await inside.round(TunnelFetch(tunnel))
        assert broken.connections == asked_portal
        await tunnel.close()


async def test_a_placeholder_in_the_place_of_an_engine_takes_out_only_that_one() -> None:
    plain = PlainEngine()
    tunnel = await plain.connect(target_for(direct(22)), direct(22))
    inside = Inside(make_instance, EngineSettings(), token="t", unhealthy_after=2, proof_s=10.0)
    async with FakeEngine("vllm") as one, FakeEngine("sglang") as other, FakeEngine("caddy") as page:
        plain.ports |= {(7, 18000): one.port, (7, 30000): other.port}
        first, second = (await inside.round(TunnelFetch(tunnel))).engines
        plain.ports[7, 30000] = page.port
        looks: list[tuple[Observation, bool, bool]] = []
        for _ in range(2):
            look = await inside.round(TunnelFetch(tunnel))
            looks.append((look.observation, first.is_healthy, second.is_healthy))
        assert looks == [(GOOD, True, True), (GOOD, True, False)]
        plain.ports[7, 30000] = other.port
        assert (await inside.round(TunnelFetch(tunnel))).engines == (first, second)
        assert second.is_healthy
        await tunnel.close()
