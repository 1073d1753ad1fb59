"""A dispatcher with real backends and engines, whose probes and requests end as the test says.

yard = Yard(clock)
yard.add(1, limit=1)
first, second = yard.ask(), yard.ask()
yard.finish(first)          # within a running loop; `second` is told in its next step
"""

import asyncio
import random
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

from tests.helpers.builders import make_instance
from tests.helpers.exchanging import WireTunnel
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside_plan import Look
from vastproxy.services.backends.load_formats import Load
from vastproxy.services.backends.state import Event, State
from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.dispatch.dispatcher import Dispatcher
from vastproxy.services.errors import BackendConnectError, BackendTimeout, ResponseInterrupted, ServiceError
from vastproxy.services.events import FleetEvent
from vastproxy.services.routing.policy import NO_HINT, Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.settings import Settings
from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings, QueueSettings
from vastproxy.settings.model import UpstreamSettings
from vastproxy.settings.routing import RoutingSettings

PORT = 18000
_PROBED = frozenset({Event.SERVING, Event.FAILING})

UNREACHABLE = BackendConnectError("the port is closed")
BROKEN_OFF = ResponseInterrupted("it broke off", received=True)
SILENT = BackendTimeout("no head came", phase="headers")


def way_lost() -> ResponseInterrupted:
    """The SSH connection under a request has ended before a byte of the answer."""
    error = ResponseInterrupted("the SSH connection ended", received=False)
    error.way_lost = True
    return error


class Caller(Claim):
    """A request that notes what it is told."""

    def __init__(self, began_at: float, on_place: Callable[["Caller", Lease], None]) -> None:
        """`on_place` looks at each place in the moment in which it is given."""
        super().__init__(began_at, b"r1", b"POST", b"/v1/chat/completions")
        self.heard: list[Lease | ServiceError] = []
        self._on_place = on_place

    def granted(self, lease: Lease) -> None:
        self.heard.append(lease)
        self._on_place(self, lease)

    def refused(self, error: ServiceError) -> None:
        self.heard.append(error)

    @property
    def waits(self) -> bool:
        """Has it neither a place nor an error?"""
        return not self.heard

    @property
    def place(self) -> Lease:
        """The place that it was given last."""
        lease = self.heard[-1]
        assert isinstance(lease, Lease), lease
        return lease

    @property
    def at(self) -> int:
        """The instance that has it."""
        return self.place.backend.id

    @property
    def error(self) -> ServiceError:
        """What it was refused with."""
        error = self.heard[-1]
        assert isinstance(error, ServiceError), error
        return error


class Yard:
    """All that a dispatcher sees of a fleet. Calls that may make somebody wait belong in a running loop."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        routing: RoutingSettings | None = None,
        admission: AdmissionSettings | None = None,
        queue: QueueSettings | None = None,
        passive: PassiveHealthSettings | None = None,
        seed: int = 1,
    ) -> None:
        settings = Settings(
            routing=routing or RoutingSettings(policy="round_robin"),
            admission=admission or AdmissionSettings(),
            queue=queue or QueueSettings(),
            passive_health=passive or PassiveHealthSettings(slow_start_s=0),
        )
        self.clock = clock
        self.events: list[FleetEvent] = []
        self.doubted: list[int] = []
        self.is_expecting = True
        self.dispatcher = Dispatcher(
            settings,
            clock=clock,
            rng=random.Random(seed),
            publish=self.events.append,
            expects=lambda: self.is_expecting,
            why_nobody=lambda: "no instances",
            doubt=self.doubted.append,
        )
        self.on_place: Callable[[Caller, Lease], None] = lambda claim, lease: None
        self.backends: dict[int, Backend] = {}
        self.unreached: set[Engine] = set()
        """Those that could not be reached since they were probed last."""
        self.engines: list[Engine] = []
        """All that there ever were."""

    # ── instances ──────────────────────────────────────────────────────────────────────────────

    def engine(
        self,
        instance_id: int,
        port: int = PORT,
        models: Sequence[str] = ("m",),
        limit: int | None = None,
        kind: EngineKind = EngineKind.VLLM,
    ) -> Engine:
        """A healthy engine, which nobody knows of yet."""
        found = DiscoveredEngine(EngineTarget(kind, port), tuple(models), Origin.PROBING)
        engine = Engine(found, instance_id=instance_id, configured=limit)
        engine.observe(Observation.GOOD, self.clock(), "", unhealthy_after=1, proof_s=10.0)
        self.engines.append(engine)
        return engine

    def add(
        self,
        instance_id: int,
        *engines: Engine,
        models: Sequence[str] = ("m",),
        limit: int | None = None,
        kind: EngineKind = EngineKind.VLLM,
        cost: float = 0.36,
    ) -> Backend:
        """An instance is there and serves; with one engine, unless they are given."""
        backend = Backend(
            make_instance(id=instance_id, dph_total=cost),
            token=None,
            now=self.clock(),
            last_seen=0,
            on_event=self._look_at,
        )
        self.backends[instance_id] = backend
        backend.step(Event.DIAL, self.clock())
        backend.use((self._way(),))
        self.probe(backend, *(engines or (self.engine(instance_id, PORT, models, limit, kind),)))
        return backend

    def probe(self, backend: Backend, *engines: Engine) -> None:
        """A round of probes has seen these engines, or the same ones as before, each as it says itself."""
        seen = engines or backend.engines
        well = any(engine.is_healthy for engine in seen)
        observation = Observation.GOOD if well else Observation.ABSENT
        backend.see(Look(observation, "" if well else "no engine answers", seen), self.clock())

    def ill(self, engine: Engine) -> None:
        """Probes find that it cannot serve."""
        self._observe(engine, Observation.ABSENT)

    def well(self, engine: Engine) -> None:
        """Probes find that it can."""
        self._observe(engine, Observation.GOOD)

    def resize(self, engine: Engine, limit: int | None) -> None:
        """It says that it takes so many requests at a time; None: it says nothing, and its arguments count."""
        engine.load = Load(capacity=limit)
        self.probe(self.backends[engine.instance_id])

    def lists(self, engine: Engine, *models: str) -> None:
        """It says that it serves these models."""
        engine.models = models
        self.probe(self.backends[engine.instance_id])

    def cut_off(self, backend: Backend) -> None:
        """The last SSH connection to it has ended."""
        backend.cut_off(Event.TUNNEL_LOST, self.clock(), "the connection ended")

    def reconnect(self, backend: Backend) -> None:
        """There is a way to it again, and its engines have been looked at."""
        backend.use((self._way(),))
        self.probe(backend)

    def remove(self, backend: Backend) -> None:
        """The account does not show it any more."""
        del self.backends[backend.id]
        backend.step(Event.VANISHED, self.clock(), "gone")

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    def ask(
        self,
        model: str | None = "m",
        *,
        asker: Hashable = None,
        priority: Priority = Priority.INTERACTIVE,
        hint: Hint = NO_HINT,
    ) -> Caller:
        """A request comes. What it is told, it has heard."""
        claim = Caller(self.clock(), lambda claim, lease: self.on_place(claim, lease))
        claim.model, claim.asker, claim.priority, claim.hint = model, asker, priority, hint
        self._try(claim, lambda: self.dispatcher.ask(claim))
        return claim

    def fail(
        self, claim: Caller, error: ServiceError = UNREACHABLE, *, costly: bool = False, reached: bool = False
    ) -> Caller:
        """Its engine fails it, and it is to be sent elsewhere."""
        assert claim.lease is not None
        if isinstance(error, BackendConnectError):
            self.unreached.add(claim.lease.engine)
        self.dispatcher.failed(claim, error, reached=reached)
        return self.elsewhere(claim, costly=costly)

    def elsewhere(self, claim: Caller, *, costly: bool = True) -> Caller:
        claim.heard.clear()
        self._try(claim, lambda: self.dispatcher.try_elsewhere(claim, costly=costly))
        return claim

    def answer(self, claim: Caller, status: int = 200, retry_after_s: float | None = None) -> None:
        """It is answered, and over."""
        self.dispatcher.answered(claim, status, retry_after_s)
        self.finish(claim)

    def finish(self, claim: Caller) -> None:
        self.dispatcher.finish(claim)

    def _try(self, claim: Caller, act: Callable[[], Lease | None]) -> None:
        try:
            lease = act()
        except ServiceError as error:
            claim.refused(error)
            self.finish(claim)
        else:
            if lease is not None:
                claim.granted(lease)

    # ── as a fleet does ────────────────────────────────────────────────────────────────────────

    def _observe(self, engine: Engine, seen: Observation) -> None:
        engine.observe(seen, self.clock(), "", unhealthy_after=1, proof_s=10.0)
        self.probe(self.backends[engine.instance_id])

    def _way(self) -> Carrier:
        return Carrier(cast(Tunnel, WireTunnel()), UpstreamSettings(), end=lambda _: None)

    def _look_at(self, backend: Backend, before: State, cause: Event, detail: str) -> None:
        targets = self.dispatcher.targets
        if cause in _PROBED:
            self.unreached.difference_update(backend.engines)
        if self.backends.get(backend.id) is not backend:
            targets.forget(backend)
        else:
            targets.refresh(backend, serving=backend.available, probed=cause in _PROBED)


def make_yard(**settings: Any) -> Yard:
    """A yard whose clock is the running loop's."""
    return Yard(asyncio.get_running_loop().time, **settings)


def full(yard: Yard, count: int = 1, model: str = "m") -> list[Caller]:
    """So many requests that all have a place."""
    callers = [yard.ask(model) for _ in range(count)]
    assert not any(each.waits for each in callers)
    return callers


async def step() -> None:
    """The next steps of the loop, in no time."""
    for _ in range(4):
        await asyncio.sleep(0)
