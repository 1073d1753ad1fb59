"""The two proxies that are given the same bytes, each before a recording engine: ours, and nginx."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.engines import FakeEngine
from tests.helpers.lockstep import Lockstep
from tests.helpers.nginx import Nginx
from tests.helpers.proxying import Proxying
from tests.helpers.recording import RecordingEngine
from vastproxy.settings.model import FleetSettings, UpstreamSettings


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy on `port`, the engine behind it, and the connection that keeps the step with it."""

    port: int
    engine: RecordingEngine
    step: Lockstep
    patience_s: float
    """How long a connection may neither end nor answer before that counts as "hangs"."""


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[Front]:
    """vastproxy, with one instance in which the recording engine has taken the place of another one."""
    quiet = FleetSettings(label="none", probe_interval_s=3600)
    # A case with many cuts may take longer than idle connections are kept by default.
    limits = UpstreamSettings(pool_max_idle=1024, pool_idle_s=600)
    async with (
        RecordingEngine() as engine,
        Proxying([FakeEngine("vllm")], fleet=quiet, upstream=limits) as proxy,
    ):
        proxy.tunnels.ports[(1, 18000)] = engine.port
        async with Lockstep(proxy.port) as step:
            yield Front(proxy.port, engine, step, patience_s=5.0)


@contextlib.asynccontextmanager
async def nginx(directory: Path) -> AsyncIterator[Front]:
    """nginx as a reverse proxy."""
    async with RecordingEngine() as engine:
        with Nginx(directory, engine.port) as server:
            async with Lockstep(server.port) as step:
                yield Front(server.port, engine, step, patience_s=0.15)
