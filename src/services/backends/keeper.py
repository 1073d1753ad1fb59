"""Keeps one backend reachable and known: the ways to it, what runs inside, its GPUs. Acts; verdicts are made elsewhere.

`tend` is one round, run on a timer. It goes as far as it gets:

1. connections: dial the paths that are due (`reach.py`);
2. no engine known: look for one;
3. ask the engine for its health, and now and then for its models.

The GPUs are read beside that, for as long as there is a way. A connection that ends or does not answer reports itself
at once; nobody waits for the next round to stop sending requests there.
"""

import asyncio
import logging
from collections.abc import Sequence

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engines import (
    EngineTarget,
    HealthStatus,
    check_health,
    detect,
    list_models,
)
from vastproxy.services.backends.gpu_care import GpuCare
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.reach import Reach
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.errors import BackendError, ChannelRefused, ServiceError, TunnelLost
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.vastai.types import Instance

logger = logging.getLogger(__name__)

#: Rounds between two readings of the model list. Models change when an operator changes them.
MODELS_EVERY = 6


class Keeper:
    """The life of one backend. `tend` must not run twice at the same time; `wake` is set when it should run soon."""

    def __init__(self, backend: Backend, tools: KeeperTools) -> None:
        self.backend = backend
        self.reach = Reach(backend, tools, changed=self._way_changed)
        self._gpus = GpuCare(backend, tools)
        self._tools = tools
        self._rounds = 0

    @property
    def wake(self) -> asyncio.Event:
        """Set when `tend` should run soon."""
        return self.reach.wake

    async def tend(self) -> None:
        """One round: see the module's docstring. Raises nothing that the instance could cause."""
        if self.backend.leaving:
            return
        await self.reach.tend()
        if (tunnel := self.backend.tunnel) is not None and not self.backend.leaving:
            await self._probe(tunnel)

    def update(self, instance: Instance) -> None:
        """The account shows this of our instance now."""
        before, self.backend.instance = self.backend.instance, instance
        self.reach.update(before, instance)

    async def leave(self, *, grace_s: float) -> None:
        """The instance is not ours any more: let running streams end, for at most `grace_s`, then close."""
        await self._gpus.aclose()
        await self.reach.leave(grace_s=grace_s)

    async def aclose(self) -> None:
        """Close every connection; streams on them end."""
        await asyncio.gather(self._gpus.aclose(), self.reach.aclose())

    def _way_changed(self) -> None:
        backend = self.backend
        if backend.tunnel is None and not self.reach.is_stalled:
            backend.target = backend.gpus = None
            backend.gpu_signs = ()
        self._gpus.follow(backend.tunnel)

    # ── what runs inside ───────────────────────────────────────────────────────────────────────

    async def _probe(self, tunnel: Tunnel) -> None:
        fetch = TunnelFetch(tunnel, fields=self._tools.fields)
        try:
            seen, detail = await self._look(fetch)
        except ChannelRefused:
            self.backend.target = None
            seen, detail = Observation.ABSENT, "the engine's port is closed"
        except TunnelLost:
            return  # reported by the tunnel itself
        except ServiceError as error:
            seen, detail = Observation.BAD, str(error)
        if tunnel.is_alive and not tunnel.is_doubted:
            settings = self._tools.settings.fleet
            self.backend.observe(
                seen,
                self._tools.clock(),
                detail,
                unhealthy_after=settings.unhealthy_after,
                proof_s=2 * settings.probe_interval_s,
            )

    async def _look(self, fetch: TunnelFetch) -> tuple[Observation, str]:
        engines, backend = self._tools.settings.engines, self.backend
        if backend.target is None:
            ports = self._ports(backend.instance, engines.ports)
            found = await detect(fetch, ports, token=backend.token, timeout_s=engines.detect_timeout_s)
            if found is None:
                tried = ", ".join(map(str, ports))
                return Observation.ABSENT, f"no inference engine answers on the ports {tried}"
            if found.problem is not None:
                return Observation.ABSENT, found.trouble
            backend.target = found
            self._rounds = 0
            logger.info("[backend=%d] engine: %s on port %d", backend.id, found.kind, found.port)
        report = await check_health(
            fetch, backend.target, token=backend.token, timeout_s=engines.health_timeout_s
        )
        if report.status is HealthStatus.HEALTHY:
            await self._read_models(fetch, backend.target)
            return Observation.GOOD, ""
        if report.status is HealthStatus.UNHEALTHY:
            return Observation.BAD, report.detail
        if report.status is HealthStatus.CLOSED:
            backend.target = None  # what comes back may be another engine, elsewhere
        return Observation.ABSENT, report.detail

    async def _read_models(self, fetch: TunnelFetch, target: EngineTarget) -> None:
        due = self._rounds % MODELS_EVERY == 0
        self._rounds += 1
        if not due:
            return
        try:
            models = await list_models(
                fetch,
                target,
                token=self.backend.token,
                timeout_s=self._tools.settings.engines.detect_timeout_s,
            )
        except BackendError as error:
            logger.info("[backend=%d] the model list could not be read: %s", self.backend.id, error)
            return
        if models is not None:
            self.backend.models = models

    @staticmethod
    def _ports(instance: Instance, defaults: Sequence[int]) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*instance.engine_ports, *defaults)))
