"""The engines that requests may be sent to: kept in step with their backends, and with what becomes of requests.

An engine may be given requests while its backend is available, its probes find it healthy, and nobody has failed to
reach it since the last one of them.
"""

import random
from collections.abc import Callable, Mapping

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.claim import Lease
from vastproxy.services.dispatch.limits import outlier_limits
from vastproxy.services.dispatch.needs import Needs
from vastproxy.services.dispatch.passive import PassiveHealth
from vastproxy.services.errors import (
    BackendConnectError,
    BackendError,
    ResponseInterrupted,
    ServiceError,
    TunnelError,
)
from vastproxy.services.events import FleetEvent
from vastproxy.services.routing.admission import limit_of
from vastproxy.services.routing.outlier import Event, event_of
from vastproxy.services.routing.speed import MIN_SECONDS, Answer, SpeedBook
from vastproxy.settings import Settings


class Targets:
    """All of it belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        rng: random.Random,
        *,
        clock: Callable[[], float],
        publish: Callable[[FleetEvent], None],
        doubt: Callable[[int], None],
        room: Callable[[], None],
    ) -> None:
        """`doubt`: called with the id of an instance whose engine should be probed at once. `room`: called when an
        engine may be given requests that might have none before: it has come or changed, or others have gone in whose
        stead it is not left alone any more."""
        self._clock = clock
        self._doubt = doubt
        self._room = room
        self._cap = settings.admission.max_in_flight_per_backend
        self._speeds = SpeedBook()
        self.backends: dict[int, Backend] = {}
        """By instance id."""
        self._engines: dict[int, tuple[Engine, ...]] = {}
        """By instance id: those that it had when it was looked at last."""
        self._well: set[int] = set()
        """Keys of engines that probes have found well, and nothing but suspicion has been heard of since."""
        self._suspects: set[int] = set()
        """Keys of engines that could not be reached a moment ago: a probe is to say how they are."""
        self.parting: dict[int, list[Engine]] = {}
        """By key: those that are not there any more, or were taken for gone, while requests that they have may still
        run. One that comes back has them, too."""
        self.needs = Needs(settings.routing, rng, clock)
        self.passive = PassiveHealth(outlier_limits(settings), publish)

    def rely(self, scores: Mapping[int, float]) -> None:
        """How far each machine can be relied on, by instance id, 0 to 1: as if it were so much slower."""
        self._speeds.scores = scores

    # ── backends ───────────────────────────────────────────────────────────────────────────────

    def refresh(self, backend: Backend, *, serving: bool, probed: bool = False) -> None:
        """Something has happened to a backend. `serving`: may it be given requests? `probed`: its engines were just
        looked at."""
        version, has_more_room = self.needs.version, False
        before, engines = self._engines.get(backend.id, ()), backend.engines
        if before is not engines:
            self._replace(before, engines)
        self.backends[backend.id], self._engines[backend.id] = backend, engines
        now, cost = self._clock(), backend.instance.hourly_cost
        for engine in engines:
            self.needs.learn(engine)
            if probed:
                self._suspects.discard(engine.key)
            if not (serving and engine.is_healthy):
                self._well.discard(engine.key)
                self.needs.withdraw(engine.key)
                continue
            if engine.key in self._suspects:
                continue
            has_more_room |= engine.limit is not None and engine.in_flight >= engine.limit
            self._look_at(engine, cost, now)
            self.needs.offer(engine)
            if engine.key not in self._well:
                self._well.add(engine.key)
                self.passive.admit(engine, now)
        if has_more_room or self.needs.version != version:
            self._room()

    def forget(self, backend: Backend) -> None:
        """A backend is gone, or on its way out."""
        if self.backends.get(backend.id) is backend:
            del self.backends[backend.id]
            self._replace(self._engines.pop(backend.id), ())
            self._room()

    def withdraw_all(self) -> None:
        """Nobody is to be given requests, until something happens to a backend that may."""
        for key in list(self.needs.offered):
            self.needs.withdraw(key)

    def _replace(self, before: tuple[Engine, ...], after: tuple[Engine, ...]) -> None:
        """Forget those that are not there any more. Another engine on the same port inherits nothing."""
        there = {engine.key: engine for engine in after}
        for engine in before:
            if there.get(engine.key) is not engine:
                if engine.in_flight:
                    self._part(engine)
                self._suspects.discard(engine.key)
                self._well.discard(engine.key)
                self._speeds.forget(engine.key)
                self.passive.forget(engine.key)
                if engine.key in there:
                    self.needs.withdraw(engine.key)
                else:
                    self.needs.forget(engine.key)

    def _look_at(self, engine: Engine, cost: float | None, now: float) -> None:
        """Bring what choosing it depends on up to date."""
        load = engine.load
        self._set_limit(engine)
        engine.waiting = load.waiting if load is not None else None
        engine.waiting_at = engine.load_at
        engine.hourly_cost = cost
        engine.speed = self._speeds.speed(engine.key)
        self.passive.refresh(engine, now)

    def _set_limit(self, engine: Engine) -> None:
        engine.limit = limit_of(engine.capacity, self._cap)
        if self.parting and engine.limit is not None:
            engine.limit = max(engine.limit - self._still_running(engine), 0)

    def ended(self, engine: Engine) -> None:
        """A request has ended, which matters while some are parting: who is there in its stead may have one more."""
        now = self.needs.offered.get(engine.key)
        if now is not None and now is not engine and engine.key in self.parting:
            self._set_limit(now)
            self._room()

    def _part(self, engine: Engine) -> None:
        """Remember that requests still run there."""
        running = {key: [one for one in each if one.in_flight] for key, each in self.parting.items()}
        self.parting = {key: each for key, each in running.items() if each}
        self.parting.setdefault(engine.key, []).append(engine)

    def _still_running(self, engine: Engine) -> int:
        """Requests that run at what was there before it under its key."""
        return sum(one.in_flight for one in self.parting.get(engine.key, ()) if one is not engine)

    # ── what becomes of requests ───────────────────────────────────────────────────────────────

    def answered(self, lease: Lease, status: int, retry_after_s: float | None) -> None:
        """The head of an answer has come."""
        event, engine, now = event_of(status), lease.engine, self._clock()
        lease.heard = True
        if not self._is_there(engine):
            return
        detail = "" if event is Event.ANSWERED else f"HTTP {status}"
        before = self.passive.state_of(engine.key)
        self.passive.note(engine, event, now, detail=detail, retry_after_s=retry_after_s)
        if event is Event.BUSY and before is not None and now >= before.paused_until:
            self._doubt(engine.instance_id)  # full, or loading again? Its health says which

    def failed(self, lease: Lease, error: ServiceError, *, reached: bool) -> None:
        """It has failed a request. `reached`: had an answer begun?"""
        engine = lease.engine
        lease.heard = True
        lease.backend.failures += 1
        engine.failures += 1
        if not self._is_there(engine):
            return
        if isinstance(error, BackendError) and error.way_lost:
            self.passive.note(engine, Event.LEFT, self._clock())  # of the engine nothing was heard
            # The SSH connection did, and there may be another one. Where there is none the backend will say so in a
            # moment; until then the places that have become free there would be given to those who wait.
            if not lease.backend.available:
                for each in lease.backend.engines:
                    self.needs.withdraw(each.key)
            return
        event = Event.WAY_FAILED if not reached and _is_of_the_way(error) else Event.ENGINE_FAILED
        self.passive.note(engine, event, self._clock(), detail=str(error))
        if isinstance(error, BackendConnectError) and self.needs.offered.get(engine.key) is engine:
            self._suspects.add(engine.key)
            self.needs.withdraw(engine.key)
            self._doubt(engine.instance_id)

    def left(self, lease: Lease) -> None:
        """The client has gone before anything was heard of the engine."""
        lease.heard = True
        if self._is_there(lease.engine):
            self.passive.note(lease.engine, Event.LEFT, self._clock())

    def measured(self, lease: Lease, seconds: float, answer_bytes: int, *, streamed: bool) -> None:
        """It has generated an answer in so many seconds."""
        engine = lease.engine
        if seconds < MIN_SECONDS or not self._is_there(engine):
            return
        among = max((lease.among + engine.in_flight) / 2, 1.0)
        self._speeds.observe(engine.key, Answer(seconds, among, answer_bytes=answer_bytes, streamed=streamed))
        engine.speed = self._speeds.speed(engine.key)

    def _is_there(self, engine: Engine) -> bool:
        """Or has another one its port meanwhile, or nobody?"""
        return engine in self._engines.get(engine.instance_id, ())


def _is_of_the_way(error: ServiceError) -> bool:
    """Did it end before any byte of an answer, without the engine's doing?"""
    return isinstance(error, BackendConnectError | TunnelError) or (
        isinstance(error, ResponseInterrupted) and not error.received
    )
