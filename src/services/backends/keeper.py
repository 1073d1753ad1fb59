"""Keeps one backend reachable and known: tunnel, engine, models, GPUs. Acts; the verdicts are made elsewhere.

`tend` is one round, run on a timer. It goes as far as it gets:

1. no tunnel: connect, unless the last failure was too recent; a tunnel over the relay is exchanged for a direct one
   when that succeeds;
2. no engine known: look for one;
3. ask the engine for its health, and now and then for its models.

The GPUs are read beside that, for as long as there is a tunnel. A tunnel that ends reports itself at once; nobody
waits for the next round to stop sending requests there.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vastproxy.services.backends.backend import Backend, Carrier
from vastproxy.services.backends.engines import (
    EngineTarget,
    HealthStatus,
    check_health,
    detect,
    list_models,
)
from vastproxy.services.backends.gpu_watch import GpuWatch
from vastproxy.services.backends.gpus import GpuReading, changes, signs
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.state import Event
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.errors import (
    BackendError,
    ChannelRefused,
    ServiceError,
    TunnelError,
    TunnelLost,
    TunnelRefused,
)
from vastproxy.services.http1.fields import FieldTable
from vastproxy.services.http1.headers import response_fields
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.backoff import Backoff
from vastproxy.services.tunnels.base import Path, Tunnel, TunnelEngine
from vastproxy.services.tunnels.dial import dial
from vastproxy.settings.model import Settings
from vastproxy.vastai.types import Instance

logger = logging.getLogger(__name__)

#: Rounds between two readings of the model list. Models change when an operator changes them.
MODELS_EVERY = 6


@dataclass(frozen=True, slots=True)
class KeeperTools:
    """What all keepers of a fleet share."""

    engine: TunnelEngine
    settings: Settings
    tasks: Tasks
    clock: Callable[[], float]
    rng: random.Random
    path_changed: Callable[[Backend, Path | None, str], None]
    fields: FieldTable = field(default_factory=response_fields)


class Keeper:
    """The life of one backend. `tend` must not run twice at the same time; `wake` is set when it should run soon."""

    def __init__(self, backend: Backend, tools: KeeperTools) -> None:
        self.backend = backend
        self.wake = asyncio.Event()
        self._tools = tools
        tunnels = tools.settings.tunnels
        self._backoff = Backoff(tunnels.backoff_min_s, tunnels.backoff_max_s)
        self._failures = 0
        self._next_dial_at = float("-inf")
        self._next_upgrade_at = float("inf")
        self._rounds = 0
        self._open: set[Tunnel] = set()
        self._watching = Tasks(f"gpus {backend.id}")
        self._gpu_watch: GpuWatch | None = None
        self._gpus_of = ("", "")
        self._gpu_task: asyncio.Task[None] | None = None

    async def tend(self) -> None:
        """One round: see the module's docstring. Raises nothing that the instance could cause."""
        if self.backend.leaving:
            return
        tunnel = self.backend.tunnel
        if tunnel is None:
            tunnel = await self._connect()
        elif tunnel.address.path is Path.RELAY and self._tools.clock() >= self._next_upgrade_at:
            self._next_upgrade_at = float("inf")
            self._tools.tasks.spawn(self._upgrade(), name=f"upgrade/{self.backend.id}")
        if tunnel is None or self.backend.leaving:
            return
        await self._probe(tunnel)

    def update(self, instance: Instance) -> None:
        """The account shows this of our instance now. Another start means another machine behind the id."""
        before, self.backend.instance = self.backend.instance, instance
        if (tunnel := self.backend.tunnel) is None:
            if target_of(instance) != target_of(before):
                self._failures = 0
                self._next_dial_at = float("-inf")
                self.wake.set()
        elif instance.identity != before.identity:
            self._tools.tasks.spawn(tunnel.close(), name=f"close/{instance.id}")

    async def leave(self, *, grace_s: float) -> None:
        """The instance is not ours any more: let running streams end, for at most `grace_s`, then close."""
        self.backend.pool.aclose()
        if (carrier := self.backend.carrier) is not None:
            carrier.retire()
            await asyncio.wait({carrier.tunnel.lost}, timeout=grace_s)
        await self.aclose()

    async def aclose(self) -> None:
        """Close every tunnel, retired ones too; streams on them end."""
        self.backend.pool.aclose()
        await asyncio.gather(self._watching.aclose(), *(tunnel.close() for tunnel in tuple(self._open)))

    # ── the tunnel ─────────────────────────────────────────────────────────────────────────────

    async def _connect(self) -> Tunnel | None:
        now = self._tools.clock()
        if now < self._next_dial_at:
            return None
        self.backend.step(Event.DIAL, now)
        if not self.backend.instance.has_sshd:
            self._next_dial_at = float("inf")
            self.backend.detail = "its image was started without sshd (runtype args), so there is no way in"
            return None
        try:
            tunnel = await dial(self._tools.engine, target_of(self.backend.instance))
        except TunnelError as error:
            self._failures += 1
            now = self._tools.clock()
            self._next_dial_at = now + self._backoff.next(self._failures, self._tools.rng)
            level = logging.WARNING if isinstance(error, TunnelRefused) else logging.INFO
            text = "[backend=%d] no tunnel (attempt %d): %s"
            logger.log(level, text, self.backend.id, self._failures, error)
            if not self.backend.leaving:
                self.backend.step(Event.TUNNEL_LOST, now, str(error))
            return None
        if self.backend.leaving:
            await tunnel.close()
            return None
        self._failures = 0
        self._attach(tunnel, "connected")
        return tunnel

    async def _upgrade(self) -> None:
        target = target_of(self.backend.instance)
        direct = tuple(address for address in target.addresses if address.path is Path.DIRECT)
        try:
            if not direct:
                return
            tunnel = await self._tools.engine.connect(target, direct[0])
        except TunnelError as error:
            logger.debug("[backend=%d] still no direct path: %s", self.backend.id, error)
            return
        finally:
            self._next_upgrade_at = self._tools.clock() + self._tools.settings.tunnels.upgrade_interval_s
        if self.backend.leaving or self.backend.tunnel is None:
            await tunnel.close()
            return
        self._attach(tunnel, "direct path found, the relay ends with its last stream")

    def _attach(self, tunnel: Tunnel, detail: str) -> None:
        self._open.add(tunnel)
        self.backend.attach(Carrier(tunnel, end=self._end))
        self._next_upgrade_at = self._tools.clock() + self._tools.settings.tunnels.upgrade_interval_s
        self._tools.path_changed(self.backend, tunnel.address.path, f"{detail} ({tunnel.address})")
        tunnel.lost.add_done_callback(lambda lost: self._on_lost(tunnel, lost))
        self._watch_gpus(tunnel)

    def _end(self, tunnel: Tunnel) -> None:
        if self._tools.tasks.closed:
            return  # the fleet is ending and closes all tunnels itself
        self._tools.tasks.spawn(tunnel.close(), name=f"close/{self.backend.id}")

    def _on_lost(self, tunnel: Tunnel, lost: "asyncio.Future[Exception | None]") -> None:
        self._open.discard(tunnel)
        if self.backend.tunnel is not tunnel:
            return
        why = str(lost.result() or "closed") if not lost.cancelled() else "closed"
        self.backend.target = self.backend.gpus = None
        self.backend.gpu_signs = ()
        self.backend.detach(self._tools.clock(), f"the tunnel ended: {why}")
        if self.backend.leaving:
            return
        self._tools.path_changed(self.backend, None, why)
        self._next_dial_at = float("-inf")
        self.wake.set()

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
        if self.backend.tunnel is tunnel:
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

    # ── GPUs ───────────────────────────────────────────────────────────────────────────────────

    def _watch_gpus(self, tunnel: Tunnel) -> None:
        """Read the GPUs over this tunnel from now on. What was learnt holds for one start of the instance."""
        instance = self.backend.instance
        if self._gpu_task is not None:
            self._gpu_task.cancel()
        if self._watching.closed:
            return
        if self._gpu_watch is None or self._gpus_of != (instance.identity, instance.gpu_arch):
            self._gpus_of = (instance.identity, instance.gpu_arch)
            limit_s = self._tools.settings.engines.gpu_timeout_s
            self._gpu_watch = GpuWatch(
                instance.gpu_arch, self._see_gpus, limit_s=limit_s, rng=self._tools.rng
            )
        self._gpu_task = self._watching.spawn(self._gpu_watch.run(tunnel), name=str(tunnel.address))

    def _see_gpus(self, reading: GpuReading) -> None:
        backend, now = self.backend, signs(reading)
        if backend.tunnel is None:
            return
        appeared, gone = changes(backend.gpu_signs, now)
        for sign in appeared:
            level = logging.WARNING if sign.trouble.is_fault else logging.DEBUG
            logger.log(level, "[backend=%d] %s", backend.id, sign)
        for sign in gone:
            logger.log(
                logging.INFO if sign.trouble.is_fault else logging.DEBUG,
                "[backend=%d] %s: no more",
                backend.id,
                sign,
            )
        backend.gpus, backend.gpu_signs = reading, now
