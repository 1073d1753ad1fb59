"""Looking inside an instance over real connections: portal, engines and whatever else may listen there."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.engines import FakeEngine
from tests.helpers.plain import PlainEngine, PlainTunnel
from tests.helpers.raw import ScriptedServer
from tests.helpers.tunnelling import direct, target_for
from vastproxy.services.backends.discovery import Discovery, Origin, Outcome, PortalReader, discover
from vastproxy.services.backends.engines import EngineKind, EngineTarget
from vastproxy.services.backends.load import LoadMonitor
from vastproxy.services.backends.pages import Page
from vastproxy.services.backends.portal import PORTAL_PORT
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.errors import TunnelLost
from vastproxy.simulator.engine import Engine
from vastproxy.simulator.flavours import create_engine_app
from vastproxy.simulator.portal import InstancePortal, Service, create_portal, image_services
from vastproxy.simulator.serving import AppServer

PORTS = (18000, 8000, 30000, 11434, 8080, 80)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Inside:
    """An instance behind a tunnel without SSH: `put` what listens on a port inside it."""

    def __init__(self) -> None:
        self._engine = PlainEngine()
        self.stack = contextlib.AsyncExitStack()
        self.tunnel: PlainTunnel
        self.portal = PortalReader()

    async def __aenter__(self) -> "Inside":
        self.tunnel = await self._engine.connect(target_for(direct(22)), direct(22))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.tunnel.close()
        await self.stack.aclose()

    def put(self, port: int, real: int) -> None:
        self._engine.ports[7, port] = real

    async def engine(self, port: int, kind: str, **options: Any) -> FakeEngine:
        engine = await self.stack.enter_async_context(FakeEngine(kind, **options))
        self.put(port, engine.port)
        return engine

    async def app(self, port: int, app: Any) -> None:
        server = AppServer(app)
        await server.start()
        self.stack.push_async_callback(server.stop)
        self.put(port, server.port)

    async def script(self, port: int, handler: Handler) -> ScriptedServer:
        server = await self.stack.enter_async_context(ScriptedServer(handler))
        self.put(port, server.port)
        return server

    @property
    def fetch(self) -> TunnelFetch:
        return TunnelFetch(self.tunnel)

    async def look(self, *, timeout_s: float = 5.0, env: dict[str, str] | None = None) -> Discovery:
        instance = make_instance(extra_env=env or {})
        return await discover(self.fetch, instance, self.portal, ports=PORTS, token="t", timeout_s=timeout_s)


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    async with Inside() as it:
        yield it


def services(*, running: bool = True) -> tuple[Service, ...]:
    ollama = Service("Ollama API", 21434, 11434, speaks_openai=True, process="ollama")
    return (*image_services("sglang", 19000, running=running), ollama)


def show(found: Discovery) -> list[tuple[str, int, tuple[str, ...] | None, str]]:
    return [(one.target.kind, one.target.port, one.models, one.service) for one in found.engines]


async def test_the_portal_leads_to_two_engines_and_caddy_counts_for_one_of_them(inside: Inside) -> None:
    await inside.app(PORTAL_PORT, create_portal(services))
    await inside.engine(19000, "sglang", models=("a",))
    await inside.engine(21434, "ollama", models=("b", "c"))
    await inside.engine(8000, "sglang", models=("a",), token="t")
    await inside.engine(8080, "jupyter")
    found = await inside.look()
    assert show(found) == [
        ("sglang", 19000, ("a",), "SGLang API"),
        ("ollama", 21434, ("b", "c"), "Ollama API"),
    ]
    assert found.engines[0].doors == (8000,)
    assert not found.targets[0].needs_token
    seen = {one.candidate.port: (one.outcome, one.page) for one in found.tried}
    assert seen[8080] == (Outcome.OTHER, Page.JUPYTER)
    assert seen[30000] == (Outcome.CLOSED, None)


async def test_only_caddy_answers(inside: Inside) -> None:
    await inside.app(PORTAL_PORT, create_portal(services))
    await inside.engine(8000, "sglang", models=("a",), token="t")
    (engine,) = (await inside.look()).engines
    assert (engine.target.port, engine.target.needs_token) == (8000, True)


async def test_caddy_with_nothing_behind_it_and_a_dead_process(inside: Inside) -> None:
    await inside.app(PORTAL_PORT, create_portal(lambda: services(running=False)))
    await inside.engine(8000, "caddy")
    found = await inside.look()
    assert found.engines == ()
    assert found.reason == (
        "its portal has SGLang API on port 19000, but nothing listens there: "
        "the process is FATAL, see its log in the portal"
    )


async def test_every_kind_of_engine_without_a_portal(inside: Inside) -> None:
    kinds = ["vllm", "sglang", "llamacpp", "ollama", "tgi", "openai"]
    for port, kind in zip(PORTS, kinds, strict=True):
        await inside.engine(port, kind, models=(kind,))
    found = await inside.look()
    assert show(found) == [(kind, port, (kind,), "") for port, kind in zip(PORTS, kinds, strict=True)]
    assert {one.origin for one in found.engines} == {Origin.PROBING}
    assert not found.portal.exists


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/js")
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff" * 100)
    await writer.drain()


def answering(status: str, kind: str, body: bytes) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode())
        for start in range(0, len(body), 65_536):
            writer.write(body[start : start + 65_536])
            await writer.drain()

    return answer


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ten megabytes of chunks, of which nobody knows how many will come."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(160):
        writer.write(b"10000\r\n" + b"[" * 65_536 + b"\r\n")
        await writer.drain()


BROKEN: dict[str, Handler] = {
    "hangs": hang,
    "hangs in the head": hang_in_the_head,
    "hangs up": hang_up,
    "garbage": garbage,
    "500": answering("500 Internal Server Error", "text/plain", b"Internal Server Error"),
    "half a list": answering(
        "200 OK", "application/json", b'[{"service": "x", "internal_base_url": "http://loc'
    ),
    "deep": answering("200 OK", "application/json", b"[" * 200_000),
    "10 MB": answering("200 OK", "application/json", b"[" + b"0," * 5_242_880 + b"0]"),
    "flood": flood,
    "page": answering("200 OK", "text/html", b"<!DOCTYPE html><title>Vast.ai Instance Portal</title>"),
}


@pytest.mark.parametrize("broken", list(BROKEN.values()), ids=list(BROKEN))
async def test_a_broken_portal_hides_no_engine_and_costs_one_limit(inside: Inside, broken: Handler) -> None:
    portal = await inside.script(PORTAL_PORT, broken)
    await inside.engine(18000, "vllm", models=("a",))
    clock = asyncio.get_running_loop().time
    began = clock()
    found = await inside.look(timeout_s=2.0)
    assert clock() - began < 10.0
    assert show(found) == [("vllm", 18000, ("a",), "")]
    assert found.portal.problem
    assert "\n" not in found.portal.problem
    await inside.look(timeout_s=2.0)
    assert portal.connections == (2 if broken is hang_up else 1)


@pytest.mark.parametrize("broken", list(BROKEN.values()), ids=list(BROKEN))
async def test_what_only_listens_is_no_engine_and_breaks_nothing(inside: Inside, broken: Handler) -> None:
    await inside.script(18000, broken)
    found = await inside.look(timeout_s=0.3)
    assert (found.engines, found.pending) == ((), ())
    assert found.reason.startswith("no inference engine answers on the ports 18000, 8000, ")
    (attempt,) = (one for one in found.tried if one.candidate.port == 18000)
    assert attempt.outcome in (Outcome.SILENT, Outcome.OTHER)


async def test_a_tunnel_that_ends_while_we_look(inside: Inside) -> None:
    reached = asyncio.Event()

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()

    await inside.script(PORTAL_PORT, cut)
    look = asyncio.get_running_loop().create_task(inside.look())
    await reached.wait()
    inside.tunnel.end(TunnelLost("connection reset"))
    (found,) = await asyncio.gather(look, return_exceptions=True)
    if isinstance(found, Discovery):  # every other port had been looked at by then
        assert (found.engines, bool(found.portal.problem)) == ((), True)
    else:
        assert isinstance(found, TunnelLost)


async def test_the_simulated_instances_portal_answers_on_its_socket(tmp_path: Path) -> None:
    portal = InstancePortal(tmp_path / "p.sock", lambda: image_services("vllm", 18000))
    await portal.start()
    try:
        assert portal.running
        reader, writer = await asyncio.open_unix_connection(str(portal.socket))
        writer.write(b"GET /capabilities/endpoints HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    finally:
        await portal.stop()
    assert not portal.running
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    (listed,) = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert listed["internal_base_url"] == "http://localhost:18000/v1"


@pytest.mark.parametrize(
    ("flavour", "path", "running", "capacity"),
    [
        ("sglang", "/v1/loads?include=core", 2, 64),
        ("vllm", "/metrics", 2, None),
        ("llamacpp", "/slots", 2, 4),
        ("tgi", "/metrics", 2, 128),
        ("ollama", "/api/ps", None, None),
    ],
)
async def test_an_engine_says_how_busy_it_is(
    inside: Inside, flavour: str, path: str, running: int | None, capacity: int | None
) -> None:
    engine = Engine(flavour, model="m")
    engine.slots = max(engine.slots, 2)
    await inside.app(18000, create_engine_app(engine))
    monitor = LoadMonitor(EngineTarget(EngineKind(flavour), 18000))
    async with engine.generation("a", {}, "hi"), engine.generation("b", {}, "hi"):
        load = await monitor.read(inside.fetch, token=None, timeout_s=5.0)
    assert load is not None
    assert (load.running, load.capacity, monitor.path) == (running, capacity, path)
    idle = await monitor.read(inside.fetch, token=None, timeout_s=5.0)
    assert idle is not None
    assert not idle.running
    asked = [request.path for request in engine.requests]
    assert asked[-1] == path.partition("?")[0]


@pytest.mark.parametrize("broken", list(BROKEN.values()), ids=list(BROKEN))
async def test_an_engine_that_sends_anything_else_has_no_known_load(inside: Inside, broken: Handler) -> None:
    await inside.script(18000, broken)
    for kind in EngineKind:
        monitor = LoadMonitor(EngineTarget(kind, 18000))
        assert await monitor.read(inside.fetch, token="t", timeout_s=0.2) is None
        assert monitor.path is None
