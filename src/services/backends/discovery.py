"""Which engines run inside an instance, and on which ports: all of them, each once. Asks; `discovery_plan` decides.

Ports come from three places, the most trusted first: vast.ai's portal, the instance's own arguments, and the ports on
which engines usually listen. All of them are examined: a port is an engine only when it answers like one.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vastproxy.services.backends.discovery_plan import (
    Attempt,
    Candidate,
    DiscoveredEngine,
    Found,
    Origin,
    Outcome,
    comes_through_gateway,
    explain,
    gateway_doors,
    plan_candidates,
    plan_targets,
)
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget, HealthStatus, read_models
from vastproxy.services.backends.engines import detect, list_models
from vastproxy.services.backends.fetch import NO_HEADERS, Fetch, ProbeResponse, request_headers
from vastproxy.services.backends.pages import Page, page_of
from vastproxy.services.backends.portal import PortalReader, PortalReading
from vastproxy.services.errors import BackendError, ChannelRefused
from vastproxy.vastai.types import Instance

__all__ = [
    "Attempt",
    "Candidate",
    "DiscoveredEngine",
    "Discovery",
    "Origin",
    "Outcome",
    "PortalReader",
    "PortalReading",
    "discover",
]

#: Ports examined at the same time. Each is one stream over the SSH connection that also carries traffic.
MAX_PARALLEL_PORTS = 4

_NAMELESS = frozenset({Page.OTHER, Page.TEXT})
_OUTCOMES: Mapping[HealthStatus | None, Outcome] = {
    None: Outcome.ENGINE,
    HealthStatus.LOADING: Outcome.STARTING,
    HealthStatus.UNAUTHORIZED: Outcome.LOCKED,
}


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one look inside found. Without `engines`, `reason` is a line for people that says why."""

    engines: tuple[DiscoveredEngine, ...] = ()
    pending: tuple[EngineTarget, ...] = ()
    """Seen, but starting or closed to us: look again later."""
    tried: tuple[Attempt, ...] = ()
    portal: PortalReading = field(default_factory=PortalReading)
    reason: str = ""

    @property
    def targets(self) -> tuple[EngineTarget, ...]:
        """Those of `engines`, the most trusted first."""
        return tuple(engine.target for engine in self.engines)


async def discover(
    fetch: Fetch,
    instance: Instance,
    portal: PortalReader,
    *,
    ports: Sequence[int],
    token: str | None,
    timeout_s: float,
    known: Sequence[DiscoveredEngine] = (),
) -> Discovery:
    """Look for every engine inside `instance`.

    `ports` are those on which engines usually listen; `token` is sent as bearer to all but the portal; `timeout_s`
    bounds each request, the portal's two together. The ports that are known beforehand are examined while the portal
    is being asked. Engines of `known` are known to be well: they and their doors are not asked, and are in the result.
    Raises TunnelLost or TunnelRefused when the instance cannot be reached.
    """
    told = instance.engine_ports
    examiner = _Examiner(fetch, token, timeout_s, spared=(port for one in known for port in one.ports))
    try:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(portal.read(fetch, timeout_s=timeout_s), name="discover/portal")
            examiner.start(plan_candidates(PortalReading(), told, ports), group)
        candidates = plan_candidates(asking.result(), told, ports)
        async with asyncio.TaskGroup() as group:
            examiner.start(candidates, group)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return _conclude(instance, asking.result(), examiner.results(candidates), known)


def _conclude(
    instance: Instance,
    portal: PortalReading,
    results: "Sequence[_Result]",
    known: Sequence[DiscoveredEngine],
) -> Discovery:
    found = [one.found for one in results if one.found is not None]
    doors = {**gateway_doors(instance.env.get("PORTAL_CONFIG") or ""), **portal.doors}
    well = (*(one.as_found for one in known), *(one for one in found if one.target.problem is None))
    doors_before = {one.target.port: one.doors for one in known}
    engines = tuple(
        replace(one, doors=tuple(dict.fromkeys((*doors_before.get(one.target.port, ()), *one.doors))))
        for one in plan_targets(well, doors)
    )
    pending = tuple(one.target for one in found if one.target.problem is not None)
    attempts = tuple(one.attempt for one in results)
    reason = "" if engines else explain(portal, attempts, pending)
    return Discovery(engines, pending, attempts, portal, reason)


@dataclass(frozen=True, slots=True)
class _Result:
    attempt: Attempt
    found: Found | None


class _Examiner:
    """Examines ports, each once, and keeps what became of them. `spared` are left alone."""

    def __init__(self, fetch: Fetch, token: str | None, timeout_s: float, *, spared: Iterable[int]) -> None:
        self._fetch = fetch
        self._token = token
        self._timeout_s = timeout_s
        self._gate = asyncio.Semaphore(MAX_PARALLEL_PORTS)
        self._begun = set(spared)
        self._results: dict[int, _Result] = {}

    def start(self, candidates: Iterable[Candidate], group: asyncio.TaskGroup) -> None:
        """Examine, as tasks of `group`, those that have not been examined."""
        for candidate in candidates:
            if candidate.port not in self._begun:
                self._begun.add(candidate.port)
                group.create_task(self._examine(candidate), name=f"discover/{candidate.port}")

    async def _examine(self, candidate: Candidate) -> None:
        watch = _Watch(self._fetch)
        async with self._gate:
            target = await detect(watch, (candidate.port,), token=self._token, timeout_s=self._timeout_s)
            found = None if target is None else await self._describe(candidate, target)
        if found is None:
            attempt = Attempt(candidate, watch.outcome, watch.page)
        else:
            attempt = Attempt(candidate, _OUTCOMES.get(found.target.problem, Outcome.OTHER))
        self._results[candidate.port] = _Result(attempt, found)

    async def _describe(self, candidate: Candidate, target: EngineTarget) -> Found:
        """What tells one engine from another: the models that it serves, and who passes its answers on."""
        if target.problem is not None:
            return Found(candidate, target)
        headers = request_headers(self._token)
        try:
            answer = await self._fetch(target.port, "/v1/models", headers=headers, timeout_s=self._timeout_s)
        except (BackendError, ChannelRefused):
            return Found(candidate, target)
        models = read_models(answer)
        if models is None and target.kind is EngineKind.OLLAMA:
            models = await list_models(self._fetch, target, token=self._token, timeout_s=self._timeout_s)
        return Found(candidate, target, models, comes_through_gateway(answer))

    def results(self, candidates: Iterable[Candidate]) -> tuple[_Result, ...]:
        """In the order of `candidates`, which say anew who named each port."""
        return tuple(
            self._named(candidate, self._results[candidate.port])
            for candidate in candidates
            if candidate.port in self._results
        )

    @staticmethod
    def _named(candidate: Candidate, result: _Result) -> _Result:
        found = None if result.found is None else replace(result.found, candidate=candidate)
        return _Result(replace(result.attempt, candidate=candidate), found)


class _Watch:
    """A `Fetch` for one port that notes what kind of peer it met."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._refused = self._answered = False
        self.page: Page | None = None

    @property
    def outcome(self) -> Outcome:
        """For a port on which no engine was found."""
        if self._answered:
            return Outcome.OTHER
        return Outcome.CLOSED if self._refused else Outcome.SILENT

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        try:
            answer = await self._fetch(
                port, path, method=method, headers=headers, body=body, timeout_s=timeout_s
            )
        except ChannelRefused:
            self._refused = True
            raise
        self._answered = True
        page = page_of(answer)
        if page is not None and (self.page is None or page not in _NAMELESS):
            self.page = page
        return answer
