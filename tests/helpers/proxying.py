"""The real proxy, served by the real server on a free port, with engines that stand in for instances."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import uvicorn

from tests.helpers.builders import make_instance
from tests.helpers.engines import FakeEngine
from tests.helpers.plain import PlainEngine
from vastproxy.api.app import create_app
from vastproxy.cli.serve import server_config
from vastproxy.jobs.probe import ProbeJob
from vastproxy.services.events import FleetEvent, StateChanged
from vastproxy.services.fleet import Fleet
from vastproxy.settings import Settings
from vastproxy.settings.admission import QueueSettings
from vastproxy.settings.model import FleetSettings, ServerSettings, TunnelSettings, UpstreamSettings
from vastproxy.settings.routing import RoutingSettings
from vastproxy.settings.tracing import TracingSettings
from vastproxy.settings.webhooks import WebhookSettings
from vastproxy.vastai import VastClient, VastConfig


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return contextlib.nullcontext()


class Proxying:
    """`engines[i]` runs in instance `i + 1`, on its port 18000. Tunnels are plain TCP."""

    def __init__(
        self,
        engines: Sequence[FakeEngine],
        *,
        upstream: UpstreamSettings | None = None,
        server: ServerSettings | None = None,
        fleet: FleetSettings | None = None,
        routing: RoutingSettings | None = None,
        queue: QueueSettings | None = None,
        webhooks: WebhookSettings | None = None,
        tracing: TracingSettings | None = None,
    ) -> None:
        """Engines take turns, nobody waits for longer than a second, and it may be asked by any name, unless the
        settings say otherwise."""
        server = server or ServerSettings()
        if "allowed_hosts" not in server.model_fields_set:
            server = server.model_copy(update={"allowed_hosts": ("*",)})
        self.engines = list(engines)
        self.settings = Settings(
            upstream=upstream or UpstreamSettings(),
            server=server,
            fleet=fleet or FleetSettings(label="none", probe_interval_s=0.2),
            webhooks=webhooks or WebhookSettings(),
            tracing=tracing or TracingSettings(),
            tunnels=TunnelSettings(backoff_min_s=0.05, backoff_max_s=0.1),
            routing=routing or RoutingSettings(policy="round_robin"),
            queue=queue or QueueSettings(max_wait_s=1.0),
        )
        self.tunnels = PlainEngine()
        self.client = VastClient(VastConfig(api_key="k", url="http://127.0.0.1:9"))
        self.fleet = Fleet(self.settings, self.client, self.tunnels)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop_engines)
            await asyncio.gather(*(engine.start() for engine in self.engines))
            for number, engine in enumerate(self.engines, start=1):
                self.tunnels.ports[(number, 18000)] = engine.port
            await stack.enter_async_context(self.fleet)
            probe = ProbeJob(self.fleet)
            probe.start()
            stack.push_async_callback(probe.aclose)
            await stack.enter_async_context(self._serving())
            self.see(range(1, len(self.engines) + 1))
            await self.wait_for_healthy(len(self.engines))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self.client.close()

    async def _stop_engines(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines))

    def see(self, ids: Sequence[int]) -> None:
        """The account shows these instances, running."""
        self.fleet.apply(tuple(make_instance(id=id) for id in ids))

    async def wait_for_healthy(self, count: int, *, limit_s: float = 30.0) -> None:
        """Until exactly `count` backends can serve."""
        changed = asyncio.Event()

        def listen(event: FleetEvent) -> None:
            if isinstance(event, StateChanged):
                changed.set()

        unsubscribe = self.fleet.events.subscribe(listen)
        try:
            async with asyncio.timeout(limit_s):
                while self._healthy() != count:
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()

    def _healthy(self) -> int:
        return self.fleet.snapshot().counts()["healthy"]

    @contextlib.asynccontextmanager
    async def _serving(self) -> Any:
        app = create_app(self.settings, fleet=self.fleet)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.port = listener.getsockname()[1]
            server = _Server(
                server_config(app, self.settings.server.model_copy(update={"shutdown_grace_s": 5.0}))
            )
            task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
            while not server.started:
                await asyncio.sleep(0.001)
            try:
                yield
            finally:
                server.should_exit = True
                await task
