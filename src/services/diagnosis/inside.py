"""What runs inside an instance, and how well: found and probed as a proxy does it, told in words."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from vastproxy.services.backends.discovery import Discovery, discover
from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.engine_health import HealthReport, check_health
from vastproxy.services.backends.engine_kinds import HealthStatus
from vastproxy.services.backends.fetch import Fetch
from vastproxy.services.backends.gpus import GpuProgram, GpuReading, signs
from vastproxy.services.backends.portal import PortalReader
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.errors import TunnelError
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.settings.model import EngineSettings
from vastproxy.vastai import Instance

#: How long looking for engines may take: one that hangs on every port takes `detect_timeout_s` for each of several.
SEARCH_LIMIT_S = 45.0
#: What a round trip and a busy instance may add to the time that nvidia-smi allows itself.
_SLACK_S = 5.0
#: A driver that refuses fields of the query is asked for less so often.
_MOST_QUERIES = 16
_MAX_MODELS_TOLD = 4
_TITLE_ENGINE, _TITLE_GPUS = "engine", "GPUs"


@dataclass(frozen=True, slots=True)
class Probed:
    """One engine, and what its health page said."""

    engine: DiscoveredEngine
    health: HealthReport


async def search(
    fetch: Fetch,
    instance: Instance,
    settings: EngineSettings,
    token: str | None,
    *,
    limit_s: float = SEARCH_LIMIT_S,
) -> Discovery | str:
    """What a proxy would find; or why nothing can be said, in words."""
    try:
        async with asyncio.timeout(limit_s):
            return await discover(
                fetch,
                instance,
                PortalReader(),
                ports=settings.ports,
                token=token,
                timeout_s=settings.detect_timeout_s,
            )
    except TimeoutError:
        return f"looking at its ports took longer than {limit_s:g} s"
    except TunnelError as error:
        return str(error)


async def probe(
    fetch: Fetch, engines: Sequence[DiscoveredEngine], settings: EngineSettings, token: str | None
) -> tuple[Probed, ...]:
    """The health of each. Raises TunnelError."""
    reports = await asyncio.gather(
        *(
            check_health(fetch, one.target, token=token, timeout_s=settings.health_timeout_s)
            for one in engines
        )
    )
    return tuple(Probed(*pair) for pair in zip(engines, reports, strict=True))


async def read_gpus(tunnel: Tunnel, instance: Instance, settings: EngineSettings) -> GpuReading | str:
    """What nvidia-smi (or AMD's tools) tell, asked as a proxy asks; or why nothing can be said."""
    program = GpuProgram.of(instance.gpu_arch, limit_s=settings.gpu_timeout_s)
    try:
        for _ in range(_MOST_QUERIES):
            done = await tunnel.run(
                program.command,
                timeout_s=program.limit_s + _SLACK_S,
                max_output_bytes=program.max_output_bytes,
            )
            reading = program.read(done.stdout, done.exit_status)
            after = program.after(reading, done.stdout)
            if after is program:
                break
            program = after
    except TimeoutError:
        return program.silence
    except TunnelError as error:
        return str(error)
    return reading


def engine_checks(found: Discovery | str, probed: Sequence[Probed], instance: Instance) -> tuple[Check, ...]:
    """Which engine answers on which port, its models, and whether the token is accepted."""
    id = instance.id
    if isinstance(found, str):
        fix = f"ask again; `vastproxy logs {id}` shows what the container writes"
        return (Check("engine", _TITLE_ENGINE, Verdict.FAIL, found, fix, id),)
    if not probed:
        return _no_engine(found, id)
    checks: list[Check] = []
    for one in probed:
        checks += [_engine(one, id), _models(one, id), _token(one, id)]
    return tuple(checks)


def _no_engine(found: Discovery, id: int) -> tuple[Check, ...]:
    problems = {target.problem: target for target in found.pending}
    if (starting := problems.get(HealthStatus.LOADING)) is not None:
        fix = f"wait while the weights are loaded; `vastproxy logs {id} --follow` shows how far it is"
        return (Check("engine", _TITLE_ENGINE, Verdict.WARN, starting.trouble, fix, id),)
    if (locked := problems.get(HealthStatus.UNAUTHORIZED)) is not None and locked.trouble == found.reason:
        fix = "set engines.api_key to the key that the engine was started with (env:NAME or file:PATH)"
        return (
            Check("engine", _TITLE_ENGINE, Verdict.WARN, f"something answers on port {locked.port}", fix, id),
            Check("engine_token", "token", Verdict.FAIL, found.reason, fix, id),
        )
    fix = (
        f"`vastproxy logs {id}` says whether the model is still being loaded or the engine has ended; "
        "if it listens on a port of its own, add that to engines.ports"
    )
    return (Check("engine", _TITLE_ENGINE, Verdict.FAIL, found.reason, fix, id),)


def _engine(one: Probed, id: int) -> Check:
    target, health = one.engine.target, one.health
    version = f" {target.version}" if target.version else ""
    name = f"{target.kind}{version} on port {target.port}"
    if health.status is HealthStatus.HEALTHY:
        detail = f"{name}, healthy after {health.latency_s * 1000:.0f} ms"
        return Check("engine", _TITLE_ENGINE, Verdict.OK, detail, instance=id)
    if health.status is HealthStatus.LOADING:
        fix = f"wait while the model is loaded; `vastproxy logs {id} --follow` shows how far it is"
        return Check("engine", _TITLE_ENGINE, Verdict.WARN, f"{name}: {health.detail}", fix, id)
    fix = f"`vastproxy logs {id}` shows what it writes; start it again if it hangs"
    return Check("engine", _TITLE_ENGINE, Verdict.FAIL, f"{name}: {health.detail}", fix, id)


def _models(one: Probed, id: int) -> Check:
    title, models = "models", one.engine.models
    if models:
        told = ", ".join(models[:_MAX_MODELS_TOLD])
        more = f" and {len(models) - _MAX_MODELS_TOLD} more" if len(models) > _MAX_MODELS_TOLD else ""
        return Check("models", title, Verdict.OK, told + more, instance=id)
    if one.health.status is not HealthStatus.HEALTHY:
        return Check("models", title, Verdict.SKIP, "not known while the engine is not well", instance=id)
    fix = "nothing, if requests are answered; else pull or name a model (`ollama pull`, `--model-path`)"
    detail = "it lists none" if models is not None else "its list cannot be read"
    return Check("models", title, Verdict.WARN, detail, fix, id)


def _token(one: Probed, id: int) -> Check:
    title = "token"
    if HealthStatus.UNAUTHORIZED in (one.health.status, one.engine.target.problem):
        fix = "set engines.api_key to the key that the engine was started with (env:NAME or file:PATH)"
        return Check("engine_token", title, Verdict.FAIL, one.health.detail, fix, id)
    asked = "asked for, and ours is accepted" if one.engine.target.needs_token else "not asked for"
    return Check("engine_token", title, Verdict.OK, asked, instance=id)


def gpu_check(reading: GpuReading | str, instance: Instance) -> Check:
    """What the GPUs are like. Requests do not depend on it, so what cannot be read is a warning."""
    id, fix = (
        instance.id,
        f"`vastproxy ssh {instance.id} -- nvidia-smi` shows it; restart it, or report the machine",
    )
    if isinstance(reading, str):
        return Check("gpus", _TITLE_GPUS, Verdict.WARN, reading, fix, id)
    faults = [str(sign) for sign in signs(reading) if sign.trouble.is_fault]
    if not reading.gpus:
        detail = reading.error or "none was shown"
        return Check("gpus", _TITLE_GPUS, Verdict.FAIL if faults else Verdict.WARN, detail, fix, id)
    detail = "; ".join((*_gpus(reading), *faults, *([reading.error] if reading.error else ())))
    if faults:
        return Check("gpus", _TITLE_GPUS, Verdict.FAIL, detail, fix, id)
    if instance.num_gpus is not None and len(reading.gpus) < instance.num_gpus:
        detail = f"{len(reading.gpus)} of {instance.num_gpus} are seen; {detail}"
        return Check("gpus", _TITLE_GPUS, Verdict.WARN, detail, fix, id)
    return Check(
        "gpus",
        _TITLE_GPUS,
        Verdict.WARN if reading.error else Verdict.OK,
        detail,
        fix * bool(reading.error),
        id,
    )


def _gpus(reading: GpuReading) -> list[str]:
    """Equal ones once, then what is busy, hot and full, over all of them."""
    names = dict.fromkeys(gpu.name or "GPU" for gpu in reading.gpus)
    told = [
        ", ".join(f"{sum((gpu.name or 'GPU') == name for gpu in reading.gpus)}x {name}" for name in names)
    ]
    busy = [gpu.utilization_percent for gpu in reading.gpus if gpu.utilization_percent is not None]
    hot = [gpu.temperature_c for gpu in reading.gpus if gpu.temperature_c is not None]
    used = [gpu.memory_used_mib for gpu in reading.gpus if gpu.memory_used_mib is not None]
    total = [gpu.memory_total_mib for gpu in reading.gpus if gpu.memory_total_mib is not None]
    if busy:
        told.append(f"{sum(busy) / len(busy):.0f} % busy")
    if hot:
        told.append(f"{max(hot):.0f} °C")
    if used and total:
        told.append(f"{sum(used) / 1024:.1f} of {sum(total) / 1024:.1f} GiB used")
    return [", ".join(told)]
