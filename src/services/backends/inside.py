"""Everything that is known of what runs inside one instance, kept fresh by probes. Acts; `inside_plan` decides.

A round costs one request for each engine, its health, and one more where it tells how busy it is. Now and then its
models are read, and engines are looked for that were started later; without an engine every round looks for one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from vastproxy.services.backends.discovery import discover
from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engine_health import check_health
from vastproxy.services.backends.engine_kinds import HealthStatus
from vastproxy.services.backends.engines import detect, list_models
from vastproxy.services.backends.fetch import Fetch
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside_plan import Look, Sight, after_search, sum_up
from vastproxy.services.backends.load_limits import configured_capacity
from vastproxy.services.backends.portal import PortalReader
from vastproxy.settings.model import EngineSettings
from vastproxy.vastai.types import Instance

__all__ = ["Engine", "Inside", "Look"]

logger = logging.getLogger(__name__)

#: First pause before another search while an engine is starting or ails; it doubles, up to the usual one.
UNSETTLED_S = 15.0
#: Share of `engines.load_interval_s` that must have passed: rounds come a little early or late.
_LOAD_DUE = 0.8


class Inside:
    """What runs inside one instance. `round` must not run twice at the same time.

    Another start of the instance is another machine: everything that was known is forgotten.
    """

    def __init__(
        self,
        instance_of: Callable[[], Instance],
        settings: EngineSettings,
        *,
        token: str | None,
        unhealthy_after: int,
        proof_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`token`: bearer for the engines. `unhealthy_after`: failed probes in a row that take an engine out.
        `proof_s`: how long an answer to a client proves that its engine lives."""
        self.engines: tuple[Engine, ...] = ()
        """Those that are known, the unhealthy ones too, at most MAX_ENGINES."""
        self._instance_of = instance_of
        self._settings = settings
        self._token = token
        self._unhealthy_after = unhealthy_after
        self._proof_s = proof_s
        self._clock = clock
        self._forget(instance_of())

    def _forget(self, instance: Instance) -> None:
        self._instance = instance
        self._portal = PortalReader(clock=self._clock)
        self._searched_at = float("-inf")
        self._pause_s = UNSETTLED_S
        self._expects_more = self._returned = False
        self._reason = ""
        self.engines = ()

    def interrupted(self) -> None:
        """The instance cannot be reached any more: no engine is healthy until a round has seen it again."""
        for engine in self.engines:
            engine.forget_health()

    async def round(self, fetch: Fetch) -> Look:
        """Probe once.

        Raises TunnelLost or TunnelRefused when the instance cannot be reached, and what else a tunnel may raise but
        ChannelRefused; nothing because of what an engine does.
        """
        instance = self._instance_of()
        if instance.identity != self._instance.identity:
            self._forget(instance)
        self._instance = instance
        if not self._search_is_due():
            sights = await self._visit_all(fetch, self.engines)
        elif self._returned or not any(engine.is_healthy for engine in self.engines):
            await self._search(fetch)
            sights = await self._visit_all(fetch, self.engines, searched=True)
        else:
            sights = await self._search_beside(fetch)
        observation, detail = sum_up(sights, self._reason)
        if observation is Observation.GOOD:
            self._reason = ""
        return Look(observation, detail, self.engines)

    # ── searching ──────────────────────────────────────────────────────────────────────────────

    async def _search_beside(self, fetch: Fetch) -> list[Sight]:
        """Search, and probe meanwhile: a port that hangs must not keep us from seeing how those are that serve."""
        before = self.engines
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._search(fetch), name="search")
                probing = group.create_task(self._visit_all(fetch, before, searched=True), name="probe")
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        new = [engine for engine in self.engines if engine not in before]
        sights = [sight for sight in probing.result() if sight.engine in self.engines]
        return sights + await self._visit_all(fetch, new, searched=True)

    def _search_is_due(self) -> bool:
        listening = [engine for engine in self.engines if engine.closed_since is None]
        if self._returned or not listening:
            return True
        pause_s = self._settings.discover_interval_s
        if not self._expects_more and all(engine.is_healthy for engine in listening):
            self._pause_s = UNSETTLED_S
        else:
            pause_s = min(self._pause_s, pause_s)
        return self._clock() - self._searched_at >= pause_s

    async def _search(self, fetch: Fetch) -> None:
        if self.engines:
            self._pause_s = min(2 * self._pause_s, self._settings.discover_interval_s)
        found = await discover(
            fetch,
            self._instance,
            self._portal,
            ports=self._settings.ports,
            token=self._token,
            timeout_s=self._settings.detect_timeout_s,
            known=[engine.as_known for engine in self.engines if engine.is_healthy],
        )
        now = self._clock()
        self._searched_at = now
        self._returned = False
        self._expects_more = any(target.problem is HealthStatus.LOADING for target in found.pending)
        self._reason = found.reason
        self.engines = after_search(self.engines, found.engines, self._make, now)

    def _make(self, found: DiscoveredEngine) -> Engine:
        target = found.target
        logger.info("[backend=%d] engine: %s on port %d", self._instance.id, target.kind, target.port)
        configured = configured_capacity(target.kind, self._instance)
        return Engine(
            found,
            instance_id=self._instance.id,
            token=self._token,
            configured=configured,
            clock=self._clock,
        )

    # ── probing ────────────────────────────────────────────────────────────────────────────────

    async def _visit_all(
        self, fetch: Fetch, engines: Sequence[Engine], *, searched: bool = False
    ) -> list[Sight]:
        if len(engines) < 2:
            return [await self._visit(fetch, engine, searched) for engine in engines]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._visit(fetch, engine, searched), name=f"probe/{engine.port}")
                    for engine in engines
                ]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _visit(self, fetch: Fetch, engine: Engine, searched: bool) -> Sight:
        was_healthy = engine.is_healthy
        sight = await self._look_at(fetch, engine, searched)
        engine.observe(
            sight.observation,
            self._clock(),
            sight.detail,
            unhealthy_after=self._unhealthy_after,
            proof_s=self._proof_s,
        )
        if engine.is_healthy is not was_healthy and len(self.engines) > 1:
            what = "is well" if engine.is_healthy else sight.detail
            logger.info("[backend=%d] %s on port %d: %s", self._instance.id, engine.kind, engine.port, what)
        if sight.status is HealthStatus.HEALTHY:
            await self._read_models(fetch, engine)
        if engine.is_healthy:
            await self._read_load(fetch, engine)
        return sight

    async def _look_at(self, fetch: Fetch, engine: Engine, searched: bool) -> Sight:
        if engine.is_closed and (problem := await self._still_away(fetch, engine, searched)):
            return problem
        report = await check_health(
            fetch,
            engine.target,
            token=self._token,
            timeout_s=self._settings.health_timeout_s,
            clock=self._clock,
        )
        if report.status is HealthStatus.HEALTHY:
            return Sight(engine, report.status)
        if report.status is HealthStatus.CLOSED:
            engine.closed_since = self._clock()
        return Sight(engine, report.status, report.detail)

    async def _still_away(self, fetch: Fetch, engine: Engine, searched: bool) -> Sight | None:
        """Why an engine whose port was closed is not back; None when it is. What comes back may be another one."""
        closed = Sight(engine, HealthStatus.CLOSED, f"port {engine.port} is closed")
        if searched:  # it was looked for a moment ago
            return closed
        target = await detect(
            fetch, (engine.port,), token=self._token, timeout_s=self._settings.detect_timeout_s
        )
        if target is None:
            return closed
        if target.problem is not None:
            return Sight(engine, target.problem, target.trouble)
        self._returned = True  # only a search tells whose engine it is, and what it serves
        return Sight(engine, HealthStatus.LOADING, f"an engine is back on port {engine.port}")

    async def _read_models(self, fetch: Fetch, engine: Engine) -> None:
        if not engine.models_due():
            return
        timeout_s = self._settings.detect_timeout_s
        models = await list_models(fetch, engine.target, token=self._token, timeout_s=timeout_s)
        if models is not None:
            engine.models = models

    async def _read_load(self, fetch: Fetch, engine: Engine) -> None:
        interval_s, now = self._settings.load_interval_s, self._clock()
        if not interval_s or now - engine.load_at < _LOAD_DUE * interval_s:
            return
        engine.load_at = now
        timeout_s = self._settings.detect_timeout_s
        load = await engine.monitor.read(fetch, token=self._token, timeout_s=timeout_s)
        if load is not None or engine.monitor.path is None:
            engine.load = load
