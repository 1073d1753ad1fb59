"""What the engines of one instance come to: which of them there are after a search, and how the instance is. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.engine import CLOSED_KEPT_S, Engine
from vastproxy.services.backends.engine_kinds import EngineKind, HealthStatus
from vastproxy.services.backends.health import Observation

#: Engines of one instance that are kept.
MAX_ENGINES = 8

#: The first of these is what people are told when no engine is healthy.
_TELLING = (HealthStatus.LOADING, HealthStatus.UNAUTHORIZED, HealthStatus.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a probe saw of one engine."""

    engine: Engine
    status: HealthStatus
    detail: str = ""

    @property
    def observation(self) -> Observation:
        if self.status is HealthStatus.HEALTHY:
            return Observation.GOOD
        return Observation.BAD if self.status is HealthStatus.UNHEALTHY else Observation.ABSENT


@dataclass(frozen=True, slots=True)
class Look:
    """What one round of probes saw inside an instance. `detail` is a line for people, "" when all is well enough to
    serve. `engines` has the unhealthy ones too."""

    observation: Observation
    detail: str
    engines: tuple[Engine, ...]


def after_search(
    known: Sequence[Engine],
    found: Iterable[DiscoveredEngine],
    make: Callable[[DiscoveredEngine], Engine],
    now: float,
) -> tuple[Engine, ...]:
    """The engines there are now. One that was found again on its port is the same object.

    One that was not found stays, as it may only be slow to answer, unless one of its ports leads elsewhere now, or was
    closed for CLOSED_KEPT_S. At most MAX_ENGINES: those that serve come first.
    """
    before = {engine.port: engine for engine in known}
    engines: list[Engine] = []
    ports: set[int] = set()
    for one in found:
        engine = before.get(one.target.port)
        if engine is not None and (again := _again(engine, one)) is not None:
            engine.seen_again(again)
            engines.append(engine)
        else:
            engines.append(make(one))
        ports.update(one.ports)
    missing = (engine for engine in known if engine not in engines and ports.isdisjoint(engine.found.ports))
    engines += (each for each in missing if not _is_gone(each, now))
    if len(engines) > MAX_ENGINES:
        engines.sort(key=lambda each: (not each.is_healthy, each.is_closed))
    return tuple(engines[:MAX_ENGINES])


def _again(engine: Engine, found: DiscoveredEngine) -> DiscoveredEngine | None:
    """`found` if it is `engine`, which a busy one may have failed to show: it is known by its models then."""
    if found.target.kind is engine.kind:
        return found
    unnamed = found.target.kind is EngineKind.OPENAI and found.models
    return replace(found, target=engine.target) if unnamed and found.models == engine.models else None


def _is_gone(engine: Engine, now: float) -> bool:
    return engine.closed_since is not None and now - engine.closed_since >= CLOSED_KEPT_S


def sum_up(sights: Sequence[Sight], reason: str) -> tuple[Observation, str]:
    """How the instance is, and why it does not serve; `reason` is why a search has found nothing.

    GOOD: an engine is well. BAD: one of them serves although it did not answer this time, or that is all that can be
    said of them. ABSENT: there is none, or it is certain that none can serve.
    """
    seen = {sight.observation for sight in sights}
    if Observation.GOOD in seen:
        return Observation.GOOD, ""
    telling = [sight.detail for status in _TELLING for sight in sights if sight.status is status]
    closed = [sight.detail for sight in sights if sight.status is HealthStatus.CLOSED]
    detail = next(iter((*telling, *filter(None, [reason]), *closed)), "")
    in_doubt = Observation.BAD in seen and Observation.ABSENT not in seen
    if in_doubt or any(sight.engine.is_healthy for sight in sights):
        return Observation.BAD, detail
    return Observation.ABSENT, detail
