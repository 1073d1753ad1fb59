"""One instance being served: what we know of it, and what it is doing.

A backend decides nothing and does nothing by itself. `keeper.py` reaches out to the instance and reports here; who
chooses asks `available`, and of its engines `is_healthy`.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.gpus import GpuReading, Sign
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside_plan import Look
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
        """The SSH connections that new requests take, all over the same path."""
        self.spare: tuple[Carrier, ...] = ()
        """Those over another path, for the moment in which the others end."""
        self.path = ""
        """Over which path new work goes: `direct` or `relay`; "" while there is no way."""
        self.engines: tuple[Engine, ...] = ()
        """What is known to run inside, the unhealthy ones too."""
        self.engine: Engine | None = None
        """The first that is healthy; None when none is. It stands for the instance where one is to be shown."""
        self.gpus: GpuReading | None = None
        self.gpu_signs: tuple[Sign, ...] = ()
        self.in_flight = 0
        self.requests = 0
        self.failures = 0
        self._on_event = on_event

    def __repr__(self) -> str:
        return f"<Backend {self.id} {self.instance.gpu_name} {self.state.name} in_flight={self.in_flight}>"

    @property
    def tunnel(self) -> Tunnel | None:
        """The tunnel that new work takes, or one of several."""
        return self.ways[0].tunnel if self.ways else None

    @property
    def models(self) -> tuple[str, ...]:
        """What can be asked of it now."""
        healthy = [engine.models for engine in self.engines if engine.is_healthy]
        return healthy[0] if len(healthy) == 1 else tuple(dict.fromkeys(chain(*healthy)))

    @property
    def leaving(self) -> bool:
        """Is its instance gone, so that nothing more is to be begun?"""
        return self.state is State.REMOVING

    @property
    def available(self) -> bool:
        """May it be given a new request? The only question asked when choosing a backend."""
        return self.state is State.HEALTHY and self.engine is not None and bool(self._usable())

    def step(self, event: Event, now: float, detail: str = "") -> None:
        """Report an event. Watchers hear of it also when the state stays the same."""
        before, self.state = self.state, step(self.state, event)
        self.detail = "" if self.state is State.HEALTHY else detail or self.detail
        if self.state is not before:
            self.since = now
        self._on_event(self, before, event, detail)

    def see(self, look: Look, now: float) -> None:
        """Report what a round of probes saw inside."""
        self.engines = look.engines
        self.engine = next((engine for engine in look.engines if engine.is_healthy), None)
        if look.observation is Observation.GOOD:
            self.step(Event.SERVING, now)
        elif self.engine is None:
            self.step(Event.FAILING, now, look.detail)

    def use(self, ways: tuple[Carrier, ...], spare: tuple[Carrier, ...] = ()) -> None:
        """From now on new work takes these, or the spare ones when they end. What runs over others goes on."""
        self.ways, self.spare = ways, spare
        self.path = ways[0].tunnel.address.path.value if ways else ""

    def cut_off(self, event: Event, now: float, detail: str) -> None:
        """There is no way to it that new work could take: none at all (TUNNEL_LOST), or none that answers (STALLED)."""
        self.ways = self.spare = ()
        self.path = ""
        self.step(event, now, detail)

    def take(self, port: int) -> UpstreamConnection | None:
        """A connection to `port` inside that has served before and may again, if there is one."""
        ways = self.ways
        if len(ways) == 1 and (connection := ways[0].take(port)) is not None:
            return connection  # as nearly always; one whose tunnel has ended would not have been taken
        usable = self._usable()
        # What waits on the others is left there: else the one that was opened to help them would not be used.
        return min(usable, key=_load).take(port) if usable else None

    async def open(self, port: int) -> UpstreamConnection:
        """A new connection to `port` inside. Raises BackendConnectError: nothing was sent."""
        if ways := self._usable():
            return await min(ways, key=_load).connect(port)
        raise BackendConnectError(f"instance {self.id} has no live tunnel to its engine")

    def _usable(self) -> Sequence[Carrier]:
        """The connections that may be taken now. One that ends says so before we are told."""
        ways = self.ways
        if len(ways) == 1 and ways[0].is_usable:
            return ways
        return tuple(way for way in ways if way.is_usable) or tuple(
            way for way in self.spare if way.is_usable
        )


_load = attrgetter("load")
