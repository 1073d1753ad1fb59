"""Which ports to look at, which of them are one engine, and why none was found. Pure.

One engine often has two ports: its own, and Caddy's in front of it, which wants the instance's token (vast.ai base
image, 2026-08: 8000 before 18000). It is one target: its own port if that answers, else Caddy's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vastproxy.services.backends.engine_kinds import EngineTarget
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.pages import Page
from vastproxy.services.backends.portal import PORTAL_PORT, PortalReading
from vastproxy.vastai.parsing import as_port
from vastproxy.vastai.ports import engine_ports

#: Ports that are examined at most, and how many of them a portal may name.
MAX_PORTS = 32
MAX_PORTAL_PORTS = 16
#: Pages that a line for people names.
MAX_PAGES_TOLD = 3


class Origin(StrEnum):
    """Who named a port, the most trusted first."""

    PORTAL = "portal"
    ARGUMENTS = "arguments"
    PROBING = "probing"


class Outcome(StrEnum):
    """What became of a port, as a phrase for people."""

    ENGINE = "an engine"
    STARTING = "an engine that is starting"
    LOCKED = "it does not accept our token"
    CLOSED = "closed"
    SILENT = "it does not answer in HTTP"
    OTHER = "no engine"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A port that may have an engine. `service` is the portal's name for it, empty if it has none."""

    port: int
    origin: Origin
    service: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate that was examined. `page` is what answers there when it is a page for people."""

    candidate: Candidate
    outcome: Outcome
    page: Page | None = None

    def __str__(self) -> str:
        return f"{self.candidate.port} ({self.page or self.outcome})"


@dataclass(frozen=True, slots=True)
class Found:
    """An engine seen behind one port."""

    candidate: Candidate
    target: EngineTarget
    models: tuple[str, ...] | None = None
    """The names under which it serves; None when they could not be read."""
    behind_gateway: bool = False
    """Its answers say that they came through Caddy."""


@dataclass(frozen=True, slots=True)
class DiscoveredEngine:
    """One engine. `doors` are further ports that lead to the same one."""

    target: EngineTarget
    models: tuple[str, ...] | None
    origin: Origin
    service: str = ""
    doors: tuple[int, ...] = ()
    behind_gateway: bool = False

    @property
    def ports(self) -> tuple[int, ...]:
        """All that lead to it, its own first."""
        return (self.target.port, *self.doors)

    @property
    def as_found(self) -> Found:
        """What was seen of it, to compare other ports with."""
        candidate = Candidate(self.target.port, self.origin, self.service)
        return Found(candidate, self.target, self.models, self.behind_gateway)


def plan_candidates(
    portal: PortalReading, arguments: Sequence[int], defaults: Sequence[int]
) -> tuple[Candidate, ...]:
    """The ports to examine, each once, the most trusted first, at most MAX_PORTS."""
    unique: dict[int, Candidate] = {}
    for candidate in (
        *tuple(_from_portal(portal))[:MAX_PORTAL_PORTS],
        *(Candidate(port, Origin.ARGUMENTS) for port in arguments),
        *(Candidate(port, Origin.PROBING) for port in defaults),
    ):
        if candidate.port != PORTAL_PORT:
            unique.setdefault(candidate.port, candidate)
    return tuple(unique.values())[:MAX_PORTS]


def _from_portal(portal: PortalReading) -> Iterator[Candidate]:
    """Its endpoints, then the services whose names are those of an API: images made by others list no endpoints."""
    for endpoint in portal.endpoints:
        yield Candidate(endpoint.port, Origin.PORTAL, endpoint.service)
    entries = (f"localhost:1:{one.internal_port}:/:{one.name.replace('|', ' ')}" for one in portal.services)
    for port in engine_ports(env={"PORTAL_CONFIG": "|".join(entries)}, image="", image_args=(), onstart=""):
        service = portal.service_on(port)
        yield Candidate(port, Origin.PORTAL, service.name if service else "")


def gateway_doors(config: str) -> dict[int, int]:
    """Caddy's port -> port behind it, from PORTAL_CONFIG (`host:external:internal:path:Name`, joined by `|`)."""
    doors: dict[int, int] = {}
    for entry in config.split("|"):
        fields = entry.strip().split(":", 4)
        if len(fields) != 5:
            continue
        outside, inside = as_port(fields[1]), as_port(fields[2])
        if outside is not None and inside is not None and outside != inside:
            doors.setdefault(outside, inside)
    return doors


def comes_through_gateway(answer: ProbeResponse) -> bool:
    """Did Caddy pass this answer on? From 2.10 on it says so in Via; before that in Server, beside the engine's own
    (caddyserver/caddy#6275)."""
    return any("caddy" in answer.headers.get(name, "").lower() for name in ("via", "server"))


def plan_targets(found: Iterable[Found], doors: Mapping[int, int]) -> tuple[DiscoveredEngine, ...]:
    """The engines behind the ports where one answers, each once, the most trusted first.

    `doors` leads from Caddy's ports to those behind. Where it says nothing, a port leads to another one's engine when
    everything that can be seen of the two is the same and only it looks like Caddy. In doubt they are two engines.
    """
    by_port = {one.target.port: one for one in found}
    own = _own_ports(by_port, doors)
    rank = {origin: place for place, origin in enumerate(Origin)}
    engines: list[tuple[int, DiscoveredEngine]] = []
    for port, one in by_port.items():
        if own[port] != port:
            continue
        others = [other for door, other in by_port.items() if own[door] == port and door != port]
        best = min((one, *others), key=lambda each: rank[each.candidate.origin])
        service = next((each.candidate.service for each in (one, *others) if each.candidate.service), "")
        ports = tuple(other.target.port for other in others)
        origin = best.candidate.origin
        engine = DiscoveredEngine(one.target, one.models, origin, service, ports, one.behind_gateway)
        engines.append((rank[engine.origin], engine))
    return tuple(engine for _, engine in sorted(engines, key=lambda each: each[0]))


def _own_ports(by_port: Mapping[int, Found], doors: Mapping[int, int]) -> dict[int, int]:
    """Port -> the port of its engine itself. Ports that lead to each other in a circle are engines of their own."""
    ends: dict[int, int] = {}
    for start in by_port:
        port, way = start, {start}
        while (following := _leads_to(by_port[port], by_port, doors)) is not None and following not in way:
            way.add(following)
            port = following
        ends[start] = port
    return {port: end if ends[end] == end else port for port, end in ends.items()}


def _leads_to(door: Found, by_port: Mapping[int, Found], doors: Mapping[int, int]) -> int | None:
    told = doors.get(door.target.port)
    if told is not None and told in by_port:
        return told
    twins = [one for one in by_port.values() if _looks_same(door, one) and _masked(one) < _masked(door)]
    return min((_masked(one), one.target.port) for one in twins)[1] if twins else None


def _looks_same(one: Found, other: Found) -> bool:
    a, b = one.target, other.target
    return bool(one.models) and (a.kind, a.version, one.models) == (b.kind, b.version, other.models)


def _masked(one: Found) -> int:
    """How much it looks like Caddy: it says so, or at least wants a token."""
    return 2 * one.behind_gateway + one.target.needs_token


def explain(portal: PortalReading, attempts: Sequence[Attempt], pending: Sequence[EngineTarget]) -> str:
    """Why there is no engine to send requests to, in one line for a person."""
    origins = {one.candidate.port: one.candidate.origin for one in attempts}
    trusted = {port for port, origin in origins.items() if origin is not Origin.PROBING}
    for target in pending:
        service = portal.service_on(target.port)
        # A port that we only tried may be Jupyter's, which is closed to us for good reasons.
        if target.port in trusted or service is None or service.internal_port in trusted:
            return target.trouble
    closed = {one.candidate.port for one in attempts if one.outcome is Outcome.CLOSED}
    for endpoint in portal.endpoints:
        if endpoint.port in closed:
            return _absent(portal, endpoint.port, endpoint.service)
    ports = ", ".join(str(one.candidate.port) for one in attempts)
    text = f"no inference engine answers on the ports {ports}" if ports else "there is no port to look at"
    pages = [one for one in attempts if one.page not in (None, Page.TEXT)]
    notes = [f"{one.candidate.port} is {one.page}" for one in pages[:MAX_PAGES_TOLD]]
    if portal.exists and portal.problem:
        notes.append(portal.problem)
    elif portal.exists and not portal.endpoints:
        notes.append("its portal lists no endpoint either")
    return "; ".join((text, *notes))


def _absent(portal: PortalReading, port: int, service: str) -> str:
    """The portal promises an engine, and nothing listens."""
    text = f"its portal has {service or 'an engine'} on port {port}, but nothing listens there"
    process = portal.service_on(port)
    if process is not None and process.is_dead:
        return f"{text}: the process is {process.state}, see its log in the portal"
    return f"{text} yet: the model may still be loading"
