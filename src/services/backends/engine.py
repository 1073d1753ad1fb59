"""One engine inside an instance: what it is, what it serves, whether it is well, and how busy it is."""

from collections.abc import Callable
from dataclasses import replace

from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.backends.health import Observation, Record, judge
from vastproxy.services.backends.load import Load, LoadMonitor
from vastproxy.services.routing.candidate import candidate_key

#: How long an engine whose port is closed is waited for. Loading a large model takes many minutes.
CLOSED_KEPT_S = 1_800.0
#: Rounds between two readings of the model list. Models change when an operator changes them.
MODELS_EVERY = 6


class Engine:
    """State of one engine. It is the same object for as long as this kind of engine is on this port.

    All of it belongs to the event loop's thread. Whoever sends it requests counts them (`in_flight`, `requests`,
    `failures`), sets `has_answered`, and keeps what choosing it depends on (`limit`, `speed`, `weight`, `waiting`,
    `hourly_cost`); everything else is written by the probes.
    """

    __slots__ = (
        "_configured",
        "_models_in",
        "_proof_until",
        "_record",
        "closed_since",
        "detail",
        "failures",
        "found",
        "has_answered",
        "hourly_cost",
        "in_flight",
        "instance_id",
        "key",
        "limit",
        "load",
        "load_at",
        "models",
        "monitor",
        "request_lines",
        "requests",
        "service",
        "speed",
        "target",
        "waiting",
        "waiting_at",
        "weight",
    )

    def __init__(
        self,
        found: DiscoveredEngine,
        *,
        instance_id: int = 0,
        token: str | None = None,
        configured: int | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`token`: bearer for it. `configured`: the capacity that its arguments give it."""
        self.target = found.target
        self.found = found
        self.service = found.service
        """The portal's name for it, empty if it has none."""
        self.models: tuple[str, ...] = found.models or ()
        self.detail = ""
        """Why it is not healthy, for people; "" when it is."""
        self.load: Load | None = None
        """How busy it was when it was asked last; None when it does not tell."""
        self.load_at = float("-inf")
        """When it was asked last for its load."""
        self.instance_id = instance_id
        self.key = candidate_key(instance_id, found.target.port)
        """By which routing knows it: instance and port in one number."""
        self.limit: int | None = None
        """Requests of ours that it is given at a time; None: as many as come."""
        self.speed = 1.0
        """Tokens per second in all, as measured; 1 while nothing is known of anybody."""
        self.weight = 1.0
        """The share of its speed that it is trusted with (slow start)."""
        self.waiting: int | None = None
        """Requests in its own queue, as it said at `waiting_at`; None where it does not tell."""
        self.waiting_at = float("-inf")
        self.hourly_cost: float | None = None
        """Dollars, its share of what the instance costs."""
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.has_answered = False
        """Have bytes of an answer to a client come since the last probe? They prove that the engine lives; those of one
        that only refuses (5xx) prove nothing against its probes, and do not count."""
        self.closed_since: float | None = None
        """Since when nobody listens on its port; None when somebody does."""
        self.monitor = LoadMonitor(found.target, configured=configured, clock=clock)
        self.request_lines = b"host: 127.0.0.1:%d\r\n" % found.target.port
        """The header lines that every request to it carries: host, and the token as bearer. A secret."""
        if token:
            self.request_lines += b"authorization: Bearer %b\r\n" % token.encode("latin-1", "replace")
        self._configured = configured
        self._models_in = 0 if found.models is None else MODELS_EVERY
        self._record = Record()
        self._proof_until = float("-inf")

    def __repr__(self) -> str:
        health = "healthy" if self.is_healthy else "not healthy"
        return f"<Engine {self.kind} port={self.port} {health} in_flight={self.in_flight}>"

    @property
    def kind(self) -> EngineKind:
        return self.target.kind

    @property
    def port(self) -> int:
        return self.target.port

    @property
    def is_healthy(self) -> bool:
        """May it be given requests, as far as it is concerned?"""
        return self._record.serving

    @property
    def is_closed(self) -> bool:
        return self.closed_since is not None

    @property
    def capacity(self) -> int | None:
        """Requests that it takes on at the same time, as it says itself or its arguments say."""
        told = self.load.capacity if self.load is not None else None
        return told if told is not None else self._configured

    @property
    def as_known(self) -> DiscoveredEngine:
        """As it was found, with the models that it has now."""
        return replace(self.found, models=self.models or None)

    def seen_again(self, found: DiscoveredEngine) -> None:
        """A search has found it: it listens, perhaps as another version."""
        if self.closed_since is not None:
            self._models_in = 0
        self.closed_since = None
        self.target, self.found = found.target, found
        self.service = found.service or self.service
        if found.models is not None:
            self.models = found.models

    def observe(
        self, seen: Observation, now: float, detail: str, *, unhealthy_after: int, proof_s: float
    ) -> None:
        """Note what a probe saw. `proof_s`: how long an answer to a client, from the moment of the first probe behind
        it, proves that the engine lives."""
        if self.has_answered:
            self.has_answered = False
            self._proof_until = now + proof_s
        alive = self.in_flight > 0 and now <= self._proof_until
        self._record, _ = judge(self._record, seen, unhealthy_after=unhealthy_after, traffic_alive=alive)
        self.detail = "" if self.is_healthy else detail
        if not self.is_healthy:
            self.load = None

    def forget_health(self) -> None:
        """It cannot be reached: what was seen of it is no proof any more."""
        self._record = Record()
        self.load = None

    def models_due(self) -> bool:
        """Count one round. Are its models to be read in it?"""
        due = self._models_in == 0
        self._models_in = (MODELS_EVERY if due else self._models_in) - 1
        return due
