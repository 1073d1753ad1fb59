"""What vast.ai's instance portal says about the engines inside an instance: reading it, and asking for it.

The portal of vast.ai's own images listens on 127.0.0.1:11111 inside the instance and wants no token there; Caddy shows
it outside. Asked are two lists:

1. `/capabilities/endpoints`: what speaks the OpenAI API, `[{service, base_url, internal_base_url, capabilities,
   models_path, auth}]`. `internal_base_url` is `http://localhost:<port>/v1`; `base_url` is for the outside.
2. `/capabilities/services`: everything, `[{name, internal_port, external_port, state, …}]`. It tells which port is only
   Caddy in front of another, and whether a process has died.

Facts: vast.ai base image, `portal-aio/capabilities`, 2026-08. For each answer the portal starts several programs
(nvidia-smi among them, up to 5 s each), so it is asked seldom. Images made before the lists answer 404; raw images have
no portal. Whoever rents the instance may change what it says: it names ports to look at, and nothing more.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vastproxy.services.backends.fetch import Fetch, ProbeResponse, request_headers
from vastproxy.services.backends.pages import page_of
from vastproxy.services.errors import BackendError, BackendTimeout, ChannelRefused, ResponseInterrupted
from vastproxy.vastai.parsing import as_port

#: Where it listens inside an instance (`fastapi run --host 127.0.0.1 --port 11111`).
PORTAL_PORT = 11_111
ENDPOINTS_PATH = "/capabilities/endpoints"
SERVICES_PATH = "/capabilities/services"
#: A full portal sends about 5 KB.
MAX_ANSWER_BYTES = 256 * 1024
MAX_ENTRIES = 64
MAX_NAME_CHARS = 64
#: How long an answer, or a portal that does not answer, is remembered.
FRESH_S = 60.0

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"})
_DEAD_STATES = frozenset({"FATAL", "EXITED", "STOPPED", "BACKOFF"})

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class PortalEndpoint:
    """A service that speaks the OpenAI API, on this port of the instance itself."""

    service: str
    port: int


@dataclass(frozen=True, slots=True)
class PortalService:
    """Any service. Caddy serves it on `external_port` if that is another port and is mapped."""

    name: str
    internal_port: int
    external_port: int | None = None
    state: str = ""
    """supervisord's word (`RUNNING`, `FATAL`, …), `unknown` or `vast-managed`."""

    @property
    def is_dead(self) -> bool:
        return self.state in _DEAD_STATES


@dataclass(frozen=True, slots=True)
class PortalReading:
    """What the portal said. `problem` is a phrase for people when its endpoints are not known, else empty."""

    endpoints: tuple[PortalEndpoint, ...] = ()
    services: tuple[PortalService, ...] = ()
    problem: str = ""
    exists: bool = True
    """False when nobody listens there, as in every image that is not vast.ai's."""

    @property
    def doors(self) -> Mapping[int, int]:
        """Port of Caddy -> port of what is behind it."""
        return {
            service.external_port: service.internal_port
            for service in self.services
            if service.external_port is not None and service.external_port != service.internal_port
        }

    def service_on(self, port: int) -> PortalService | None:
        """Whose port it is, on either side of Caddy."""
        inside = next((one for one in self.services if one.internal_port == port), None)
        return inside or next((one for one in self.services if one.external_port == port), None)


def parse_endpoints(answer: ProbeResponse) -> tuple[PortalEndpoint, ...] | None:
    """The endpoints that can be reached inside, each port once; None when it is no such list. Never raises."""
    return _entries(answer, _endpoint, lambda endpoint: endpoint.port)


def parse_services(answer: ProbeResponse) -> tuple[PortalService, ...] | None:
    """The services, each once; None when it is no such list. Never raises."""
    return _entries(answer, _service, lambda service: (service.name, service.internal_port))


def _entries(
    answer: ProbeResponse, read: Callable[[Mapping[str, Any]], Entry | None], key: Callable[[Entry], object]
) -> tuple[Entry, ...] | None:
    if answer.status != 200 or answer.is_page or len(answer.body) > MAX_ANSWER_BYTES:
        return None
    rows = answer.json()
    if not isinstance(rows, list):
        return None
    found: dict[object, Entry] = {}
    for row in rows[:MAX_ENTRIES]:
        if isinstance(row, dict) and (entry := read(row)) is not None:
            found.setdefault(key(entry), entry)
    return tuple(found.values())


def _endpoint(row: Mapping[str, Any]) -> PortalEndpoint | None:
    port = _local_port(row.get("internal_base_url"))
    return None if port is None else PortalEndpoint(_name(row.get("service")), port)


def _service(row: Mapping[str, Any]) -> PortalService | None:
    port = as_port(row.get("internal_port"))
    if port is None:
        return None
    return PortalService(
        _name(row.get("name")), port, as_port(row.get("external_port")), _name(row.get("state"))
    )


def _local_port(url: object) -> int | None:
    """The port of an `http://` URL on the instance itself. An engine with TLS of its own cannot be asked."""
    if not isinstance(url, str) or len(url) > 2048:
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or host not in _LOCAL_HOSTS:
        return None
    return 80 if port is None else as_port(port)


def _name(value: object) -> str:
    """A name that can be shown in a log: one line, bounded."""
    if not isinstance(value, str):
        return ""
    name = value.strip()[:MAX_NAME_CHARS]
    return name if name.isprintable() else ""


class PortalReader:
    """Asks the portal of one instance, and remembers what it said for `fresh_s` seconds of `clock`.

    A port where nobody listens, or that hangs up, costs next to nothing and is not remembered. Make a new one for a new
    start.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None, fresh_s: float = FRESH_S) -> None:
        self._clock = clock
        self._fresh_s = fresh_s
        self._reading: PortalReading | None = None
        self._until = 0.0

    async def read(self, fetch: Fetch, *, timeout_s: float) -> PortalReading:
        """What the portal says, within `timeout_s` seconds for all of it.

        Everything that can be wrong with a portal is in `problem`. Raises TunnelLost or TunnelRefused when the
        instance itself cannot be reached.
        """
        now = self._clock or asyncio.get_running_loop().time
        if self._reading is not None and now() < self._until:
            return self._reading
        started = now()
        try:
            answer = await _ask(fetch, ENDPOINTS_PATH, timeout_s)
        except ChannelRefused:
            self._reading = None
            return PortalReading(problem="the instance has no portal", exists=False)
        except BackendTimeout:
            problem = f"the portal did not answer within {timeout_s:g} s"
            return self._keep(PortalReading(problem=problem), now())
        except BackendError as error:
            reading = PortalReading(problem=f"port {PORTAL_PORT} does not answer as the portal does")
            # A connection that broke off may have done so with the tunnel, and costs the instance nothing.
            return reading if isinstance(error, ResponseInterrupted) else self._keep(reading, now())
        endpoints = parse_endpoints(answer)
        if endpoints is None:
            return self._keep(PortalReading(problem=_trouble(answer)), now())
        services = await self._services(fetch, timeout_s - (now() - started))
        return self._keep(PortalReading(endpoints, services), now())

    @staticmethod
    async def _services(fetch: Fetch, timeout_s: float) -> tuple[PortalService, ...]:
        if timeout_s <= 0:
            return ()
        try:
            return parse_services(await _ask(fetch, SERVICES_PATH, timeout_s)) or ()
        except (BackendError, ChannelRefused):
            return ()  # they only explain the endpoints, which are known

    def _keep(self, reading: PortalReading, now: float) -> PortalReading:
        self._reading, self._until = reading, now + self._fresh_s
        return reading


async def _ask(fetch: Fetch, path: str, timeout_s: float) -> ProbeResponse:
    return await fetch(PORTAL_PORT, path, headers=request_headers(None), timeout_s=timeout_s)


def _trouble(answer: ProbeResponse) -> str:
    if answer.status == 404:
        return "the portal of its image does not list endpoints yet"
    if (page := page_of(answer)) is not None:
        return f"port {PORTAL_PORT} answers {answer.status} with {page}"
    return f"port {PORTAL_PORT} answers {answer.status}, but not as the portal does"
