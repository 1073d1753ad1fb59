"""What is shown of the fleet to people and programs: plain values, no secrets, safe to serialise."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.gpus import Gpu
from vastproxy.services.backends.reach import Reach
from vastproxy.services.backends.state import State
from vastproxy.services.timeleft import TimeLeft
from vastproxy.services.tunnels.base import Path

Status = Literal["healthy", "degraded", "unhealthy"]

#: After so long without a list the API counts as not answering, though its last answer was good: one read may hang
#: for the read timeout, several times over.
STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class PathSnapshot:
    """One path to an instance. `state`: down, dialing, up or doubted. `streams`: HTTP connections over it, on so many
    SSH `connections`. `error`: why the last attempt came to nothing, if none has succeeded since."""

    path: str
    state: str
    address: str | None
    connections: int
    streams: int
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """One engine inside an instance. `service`: the portal's name for it. `running`, `waiting`, `capacity`,
    `cache_used`: as it says itself, None where it does not. `in_flight`: our requests. `error`: why it gets none."""

    kind: str
    version: str | None
    port: int
    service: str
    healthy: bool
    models: tuple[str, ...]
    in_flight: int
    running: int | None
    waiting: int | None
    capacity: int | None
    cache_used: float | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return {name: getattr(self, name) for name in self.__slots__} | {"models": list(self.models)}


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """One backend. `path`, `address`, `engine`, `port`, `models`: what new requests take. `since_s`: seconds in this
    state. `error`: why it does not serve. `ends_unix`: when its contract ends. `tunnel_since_s`: for how long its path
    has been connected. `time_left`: how long it is ours, None where nobody has asked."""

    id: int
    state: str
    since_s: float
    path: str | None
    address: str | None
    paths: tuple[PathSnapshot, ...]
    engine: str | None
    port: int | None
    models: tuple[str, ...]
    engines: tuple[EngineSnapshot, ...]
    gpu_name: str
    num_gpus: int
    gpus: tuple[Gpu, ...]
    gpu_error: str | None
    gpu_signs: tuple[dict[str, Any], ...]
    in_flight: int
    requests: int
    failures: int
    hourly_cost: float | None
    label: str
    error: str | None
    machine_id: int | None = None
    geolocation: str = ""
    ends_unix: float | None = None
    draining: bool = False
    tunnel_since_s: float | None = None
    time_left: TimeLeft | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return fields | {
            "time_left": None if self.time_left is None else self.time_left.to_json(),
            "paths": [path.to_json() for path in self.paths],
            "engines": [engine.to_json() for engine in self.engines],
            "gpus": [gpu.to_json() for gpu in self.gpus],
        }


@dataclass(frozen=True, slots=True)
class VastApiSnapshot:
    """How the vast.ai API answers us: `status` is healthy, unhealthy or unknown (not asked yet)."""

    status: str
    latency_ms: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """The fleet in a few words. `status`: healthy while all serve, degraded while one does, else unhealthy.

    `backends`: how many there are in `total` and in each state.
    """

    status: Status
    reason: str | None
    uptime_s: float
    vast_api: VastApiSnapshot
    backends: dict[str, int]


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The whole fleet at one moment, each backend with all that is known of it. `status` as in `FleetSummary`."""

    status: Status
    reason: str | None
    uptime_s: float
    vast_api: VastApiSnapshot
    backends: tuple[BackendSnapshot, ...]

    def counts(self) -> dict[str, int]:
        """Backends in total and by state."""
        return count_states(backend.state for backend in self.backends)


def count_states(states: Iterable[str]) -> dict[str, int]:
    """How many in total and of each state, those without any included."""
    by_state = {state.value: 0 for state in State}
    for state in states:
        by_state[state] += 1
    return {"total": sum(by_state.values()), **by_state}


def snapshot_backend(
    backend: Backend, reach: Reach, now: float, left: TimeLeft | None = None
) -> BackendSnapshot:
    tunnel, reading = backend.tunnel, backend.gpus
    engine = backend.engine or next(iter(backend.engines), None)
    return BackendSnapshot(
        id=backend.id,
        state=backend.state.value,
        since_s=round(max(now - backend.since, 0.0), 1),
        path=tunnel.address.path.value if tunnel else None,
        address=f"{tunnel.address.host}:{tunnel.address.port}" if tunnel else None,
        paths=tuple(snapshot_path(reach, path) for path in Path),
        engine=engine.kind.value if engine else None,
        port=engine.port if engine else None,
        models=backend.models,
        engines=tuple(map(snapshot_engine, backend.engines)),
        gpu_name=backend.instance.gpu_name or "",
        num_gpus=backend.instance.num_gpus or 0,
        gpus=reading.gpus if reading else (),
        gpu_error=reading.error if reading else None,
        gpu_signs=tuple(sign.to_json() for sign in backend.gpu_signs),
        in_flight=backend.in_flight,
        requests=backend.requests,
        failures=backend.failures,
        hourly_cost=backend.instance.hourly_cost,
        label=backend.instance.label,
        error=backend.detail or None,
        machine_id=backend.instance.machine_id,
        geolocation=backend.instance.geolocation,
        ends_unix=backend.instance.end_date,
        draining=backend.state is State.DRAINING,
        tunnel_since_s=None if tunnel is None else _connected_s(reach, tunnel.address.path, now),
        time_left=left,
    )


def _connected_s(reach: Reach, path: Path, now: float) -> float | None:
    seconds = now - reach.records[path].connected_at
    return round(max(seconds, 0.0), 1) if isfinite(seconds) else None


def snapshot_path(reach: Reach, path: Path) -> PathSnapshot:
    carriers = reach.carriers(path)
    at = carriers[0].tunnel.address if carriers else None
    return PathSnapshot(
        path=path.value,
        state=reach.records[path].state.name.lower(),
        address=f"{at.host}:{at.port}" if at else None,
        connections=len(carriers),
        streams=sum(carrier.streams for carrier in carriers),
        error=reach.refusals[path],
    )


def snapshot_engine(engine: Engine) -> EngineSnapshot:
    load = engine.load
    return EngineSnapshot(
        kind=engine.kind.value,
        version=engine.target.version,
        port=engine.port,
        service=engine.service,
        healthy=engine.is_healthy,
        models=engine.models,
        in_flight=engine.in_flight,
        running=load.running if load else None,
        waiting=load.waiting if load else None,
        capacity=engine.capacity,
        cache_used=load.cache_used if load else None,
        error=engine.detail or None,
    )


def summarise(
    states: Sequence[str],
    *,
    serving: int,
    api: VastApiSnapshot,
    listed_at: float | None,
    started_at: float,
    now: float,
) -> FleetSummary:
    """The fleet in a few words. `states`: of all backends; `serving`: how many of them may be given requests; `api`:
    what was last said of vast.ai; `listed_at`: when the list was last read."""
    news = api_news(api, silent_s=now - (started_at if listed_at is None else listed_at))
    status, reason = verdict(len(states), serving, news, listed_at is not None)
    return FleetSummary(status, reason, round(now - started_at, 1), news, count_states(states))


def api_news(last: VastApiSnapshot, *, silent_s: float) -> VastApiSnapshot:
    """What the last reading of the list said – unless it is so long ago that the silence since says more."""
    if last.status == "unhealthy" or silent_s < STALE_S:
        return last
    return VastApiSnapshot("unhealthy", None, f"no answer for {silent_s:.0f} s")


def verdict(total: int, serving: int, vast_api: VastApiSnapshot, listed: bool) -> tuple[Status, str | None]:
    """The overall status, and why it is not healthy, as one sentence for whoever is woken by it."""
    if serving == 0:
        if total:
            return "unhealthy", f"none of {total} backends can serve"
        if vast_api.status == "unhealthy":
            return "unhealthy", f"no backends are known and vast.ai does not answer: {vast_api.error}"
        if not listed:
            return "unhealthy", "the instance list has not been read yet"
        return "unhealthy", "the account has no running instance that the settings let in"
    if serving < total:
        return "degraded", f"{serving} of {total} backends can serve"
    if vast_api.status == "unhealthy":
        return "degraded", f"vast.ai does not answer, serving from the last good list: {vast_api.error}"
    return "healthy", None
