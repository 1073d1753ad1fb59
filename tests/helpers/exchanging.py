"""A request and its engines in memory: what an `Exchange` does, call by call, with nothing else running.

scene = Scene()
asked = await scene.ask(b"POST", b"/v1/x", body=b"hello")
asked.stream.feed(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
assert asked.client.status == 204
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import cast

from tests.helpers.builders import make_engine, make_instance
from tests.helpers.recording_client import RecordingClient, make_request
from tests.helpers.streams import MemoryStream
from vastproxy.api.access import AccessLog, Tried
from vastproxy.api.exchange import Exchange
from vastproxy.api.gathering import GATHER_S
from vastproxy.api.http.request import Request
from vastproxy.api.tools import ProxyTools
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.dispatch.dispatcher import Dispatcher
from vastproxy.services.errors import ChannelRefused, TunnelError
from vastproxy.services.events import FleetEvent
from vastproxy.services.fleet import Fleet
from vastproxy.services.http1.framing import EMPTY, Framing
from vastproxy.services.http1.grammar import Header
from vastproxy.services.traces import Traces
from vastproxy.services.tunnels.base import Path, SshAddress, StreamProtocol, StreamProtocolT, Tunnel
from vastproxy.settings import Settings
from vastproxy.settings.admission import AdmissionSettings, QueueSettings
from vastproxy.settings.model import ServerSettings, UpstreamSettings
from vastproxy.settings.routing import RoutingSettings

PORT = 18000


class WireStream(MemoryStream):
    """A stream whose end is told, as a transport does: in the next step of the loop."""

    def abort(self) -> None:
        self._end(super().abort)

    def close(self) -> None:
        self._end(super().close)

    def _end(self, end: Callable[[], None]) -> None:
        if not self.is_closing():
            end()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def lose(self, error: Exception | None = None) -> None:
        if not self.is_closing():
            super().lose(error)

    def fill(self) -> None:
        """The way to the engine takes no more."""
        self.protocol.pause_writing()

    def drain(self) -> None:
        self.protocol.resume_writing()


class WireTunnel:
    """A tunnel to one engine. `refusal` is raised instead of opening; `gate`, while it is closed, holds openings;
    one that `hangs_up` ends each stream in the moment in which it is there."""

    def __init__(self) -> None:
        self.streams: list[WireStream] = []
        self.refusal: TunnelError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.address = SshAddress("192.0.2.1", 22, Path.DIRECT)
        self.is_alive = True
        self.is_doubted = False
        self.hangs_up = False

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = "127.0.0.1"
    ) -> StreamProtocolT:
        assert port == PORT
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.refusal is not None:
            raise self.refusal
        protocol = factory()
        stream: StreamProtocol = protocol
        self.streams.append(WireStream(stream))
        if self.hangs_up:
            self.streams[-1].lose()
        return protocol

    def refuse(self) -> None:
        self.refusal = ChannelRefused(f"port {PORT} is closed")


class RecordingAccessLog(AccessLog):
    """Keeps what would be logged: status, attempts, bytes sent and received, instance."""

    def __init__(self) -> None:
        super().__init__(enabled=False)
        self.lines: list[tuple[int, int, int, int, int | None]] = []

    def log(
        self,
        request_id: bytes,
        method: bytes,
        path: bytes,
        key: str | None,
        model: str | None,
        instance_id: int | None,
        via: str,
        status: int,
        error: str | None,
        streamed: bool,
        sent_bytes: int,
        received_bytes: int,
        attempts: int,
        queued_s: float,
        ttfb_s: float | None,
        took_s: float,
        tokens_in: int | None,
        tokens_out: int | None,
        client: str,
        tried: Sequence[Tried] = (),
    ) -> None:
        self.lines.append((status, attempts, sent_bytes, received_bytes, instance_id))


class _Fleet:
    """The part of a fleet that requests ask for. Who serves next is the first by id that has failed nobody."""

    def __init__(self, settings: Settings, backends: Sequence[Backend]) -> None:
        self.settings = settings
        self.clock = asyncio.get_running_loop().time
        self.traces = Traces(clock=self.clock, wall_clock=time.time)
        self.events: list[FleetEvent] = []
        self.doubted: list[int] = []
        self.expecting = False
        self.dispatcher = Dispatcher(
            settings,
            clock=self.clock,
            rng=random.Random(1),
            publish=self.events.append,
            expects=lambda: self.expecting,
            why_nobody=lambda: "nobody is there",
            doubt=self.doubted.append,
        )
        for backend in backends:
            self.dispatcher.targets.refresh(backend, serving=True)


class Asked:
    """One request under way."""

    def __init__(self, scene: "Scene", client: RecordingClient, exchange: Exchange) -> None:
        self._scene = scene
        self.client = client
        self.exchange = exchange

    @property
    def stream(self) -> WireStream:
        """Where it was sent last, by whatever request."""
        return self._scene.streams[-1]

    @property
    def error(self) -> str:
        """The code of an answer of ours."""
        found = self.client.body.rpartition(b'"code": "')[2].partition(b'"')[0]
        return found.decode()


class Scene:
    """Backends 1, 2, …, each with a tunnel, before the tools of a proxy."""

    def __init__(
        self,
        *,
        backends: int = 2,
        kind: EngineKind = EngineKind.VLLM,
        upstream: UpstreamSettings | None = None,
        server: ServerSettings | None = None,
        routing: RoutingSettings | None = None,
        admission: AdmissionSettings | None = None,
        queue: QueueSettings | None = None,
    ) -> None:
        """Without `queue` nobody waits."""
        self.settings = Settings(
            upstream=upstream or UpstreamSettings(),
            server=server or ServerSettings(),
            routing=routing or RoutingSettings(policy="cheapest_first"),
            admission=admission or AdmissionSettings(),
            queue=queue or QueueSettings(max_waiting=0),
        )
        self.tunnels = [WireTunnel() for _ in range(backends)]
        self.backends = [self._backend(number, kind) for number in range(1, backends + 1)]
        self.access = RecordingAccessLog()
        self.fleet = _Fleet(self.settings, self.backends)
        self.tools = ProxyTools(cast(Fleet, self.fleet), access_log=self.access)

    def _backend(self, number: int, kind: EngineKind) -> Backend:
        backend = Backend(
            make_instance(id=number, dph_total=float(number)),
            token=f"token-{number}",
            now=0.0,
            last_seen=0,
            on_event=lambda *_: None,
        )
        way = Carrier(cast(Tunnel, self.tunnels[number - 1]), self.settings.upstream, end=lambda _: None)
        backend.use((way,))
        backend.engine = make_engine(kind, PORT, token=f"token-{number}", instance_id=number)
        backend.engines = (backend.engine,)
        return backend

    async def aclose(self) -> None:
        await self.tools.aclose()
        self.fleet.dispatcher.aclose()
        for backend in self.backends:
            for way in backend.ways:
                way.retire()
        await settle()

    @property
    def streams(self) -> list[WireStream]:
        """Of all tunnels; in the order of opening within each."""
        return [stream for tunnel in self.tunnels for stream in tunnel.streams]

    def start(self, request: Request, data: bytes = b"", *, complete: bool = True) -> Asked:
        """A request begins, with so much of its body."""
        client = RecordingClient()
        exchange = Exchange(self.tools, request, client, request_id=b"r1")
        asked = Asked(self, client, exchange)
        exchange.begin(data, complete=complete)
        return asked

    async def ask(
        self,
        method: bytes = b"GET",
        target: bytes = b"/v1/x",
        *,
        body: bytes = b"",
        headers: Sequence[Header] = (),
        complete: bool = True,
        framing: Framing | None = None,
        pin: int | None = None,
        expects_continue: bool = False,
        takes_trailers: bool = False,
        upgrade: bytes = b"",
    ) -> Asked:
        """As `start`, and until everything that can happen by itself has happened."""
        if framing is None:
            framing = Framing(chunked=False, length=len(body)) if body else EMPTY
        pinned = [] if pin is None else [(b"x-vastproxy-instance", b"%d" % pin)]
        request = make_request(
            method,
            target,
            headers=[*headers, *pinned],
            framing=framing,
            expects_continue=expects_continue,
            takes_trailers=takes_trailers,
            upgrade=upgrade,
        )
        asked = self.start(request, body, complete=complete)
        await settle()
        return asked

    def assert_idle(self, *, failures: int = 0) -> None:
        """Nothing is leased, nothing is being opened, and so many attempts are held against backends."""
        assert [backend.in_flight for backend in self.backends] == [0] * len(self.backends)
        assert sum(backend.failures for backend in self.backends) == failures
        assert sum(tunnel.waiting for tunnel in self.tunnels) == 0
        assert (self.fleet.dispatcher.in_flight, self.fleet.dispatcher.waiting) == (0, 0)


async def settle() -> None:
    """Everything that needs no time has happened."""
    for _ in range(8):
        await asyncio.sleep(0)


async def gathered() -> None:
    """No more of a body is waited for before a backend is asked. In virtual time."""
    await asyncio.sleep(2 * GATHER_S)
    await settle()
