"""One instance being served: what we know of it, what it is doing, and the lease that says so.

A backend decides nothing and does nothing by itself. `keeper.py` reaches out to the instance and reports here; the
fleet asks `available`, which is the only question that choosing a backend needs.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter

from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.engines import EngineTarget
from vastproxy.services.backends.gpus import GpuReading, Sign
from vastproxy.services.backends.health import Observation, Record, judge
from vastproxy.services.backends.state import Event, State, step
from vastproxy.services.errors import BackendConnectError
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.services.upstream.connection import UpstreamConnection
from vastproxy.vastai.types import Instance

#: Called with the backend, the state before, the event, and why.
Watcher = Callable[["Backend", State, Event, str], None]


class Backend:
    """State of one instance. All methods belong to the event loop's thread."""

    def __init__(
        self,
        instance: Instance,
        *,
        token: str | None,
        now: float,
        last_seen: int,
        on_event: Watcher,
    ) -> None:
        self.id = instance.id
        self.instance = instance
        self.last_seen = last_seen
        """Number of the last instance list it was in."""
        self.token = token
        """Bearer for the engine. A secret."""
        self.state = State.DISCOVERED
        self.since = now
        """Clock time of the last change of state."""
        self.detail = ""
        """Why it is not serving, for people; "" when it is."""
        self.ways: tuple[Carrier, ...] = ()
        """The SSH connections that new requests may take, all over the same path."""
        self.target: EngineTarget | None = None
        self.models: tuple[str, ...] = ()
        self.gpus: GpuReading | None = None
        self.gpu_signs: tuple[Sign, ...] = ()
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self.has_answered = False
        """Have bytes of an answer to a client come since the last probe? They prove that the engine lives."""
        self._proof_until = float("-inf")
        self._record = Record()
        self._on_event = on_event
        self._lines_for: tuple[EngineTarget | None, str | None] = (None, None)
        self._lines = b""

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.instance.gpu_name} {self.state.name} in_flight={self.in_flight}>"

    @property
    def tunnel(self) -> Tunnel | None:
        """The tunnel that new work takes, or one of several."""
        return self.ways[0].tunnel if self.ways else None

    def request_lines(self) -> bytes:
        """The header lines that every request to its engine carries: host, and the token as bearer. A secret."""
        target, token = self.target, self.token
        assert target is not None
        if self._lines_for != (target, token):
            self._lines_for = target, token
            self._lines = b"host: 127.0.0.1:%d\r\n" % target.port
            if token:
                self._lines += b"authorization: Bearer %b\r\n" % token.encode("latin-1", "replace")
        return self._lines

    @property
    def leaving(self) -> bool:
        """Is its instance gone, so that nothing more is to be begun?"""
        return self.state is State.REMOVING

    @property
    def available(self) -> bool:
        """May it be given a new request? The only question asked when choosing a backend."""
        return self.state is State.HEALTHY and any(way.is_usable for way in self.ways)

    def step(self, event: Event, now: float, detail: str = "") -> None:
        """Report an event. Watchers hear of it also when the state stays the same."""
        before, self.state = self.state, step(self.state, event)
        self.detail = "" if self.state is State.HEALTHY else detail or self.detail
        if self.state is not before:
            self.since = now
        self._on_event(self, before, event, detail)

    def observe(
        self, seen: Observation, now: float, detail: str, *, unhealthy_after: int, proof_s: float
    ) -> None:
        """Report what a probe saw. `proof_s`: how long an answer to a client, from the moment of the first probe
        behind it, proves that the engine lives."""
        if self.has_answered:
            self.has_answered = False
            self._proof_until = now + proof_s
        alive = self.in_flight > 0 and now <= self._proof_until
        self._record, event = judge(self._record, seen, unhealthy_after=unhealthy_after, traffic_alive=alive)
        if event is not None:
            self.step(event, now, detail)

    def use(self, ways: tuple[Carrier, ...]) -> None:
        """From now on new work takes these. What runs over others goes on."""
        self.ways = ways

    def cut_off(self, event: Event, now: float, detail: str) -> None:
        """There is no way to it that new work could take: none at all (TUNNEL_LOST), or none that answers (STALLED)."""
        self.ways = ()
        self._record = Record()
        self.step(event, now, detail)

    def take(self) -> UpstreamConnection | None:
        """A connection to its engine that has served before and may again, if there is one."""
        target = self.target
        if target is None:
            return None
        for way in self._least_busy_first():
            if way.is_usable and (connection := way.take(target.port)) is not None:
                return connection
        return None

    async def open(self) -> UpstreamConnection:
        """A new connection to its engine. Raises BackendConnectError: nothing was sent."""
        if self.target is not None:
            for way in self._least_busy_first():
                if way.is_usable:
                    return await way.open(self.target.port)
        raise BackendConnectError(f"instance {self.id} has no live tunnel to its engine")

    def _least_busy_first(self) -> Sequence[Carrier]:
        ways = self.ways
        return ways if len(ways) < 2 else sorted(ways, key=_busy)


_busy = attrgetter("busy")


class Lease:
    """The right to send one request to one backend, counted from before the request is sent until `release`."""

    __slots__ = ("backend", "released")

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.released = False
        backend.in_flight += 1
        backend.requests += 1

    def failed(self) -> None:
        """The backend, not the client, is to blame for how this request ended."""
        self.backend.failures += 1

    def release(self) -> None:
        """Give the place back; more than once does nothing."""
        if not self.released:
            self.released = True
            self.backend.in_flight -= 1
