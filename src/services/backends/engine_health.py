"""Is the engine healthy? Each kind says it in its own way, and what stands in front of it can lie."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from vastproxy.services.backends.engine_kinds import (
    EngineKind,
    EngineTarget,
    HealthStatus,
    is_llamacpp_loading,
    is_model_list,
)
from vastproxy.services.backends.fetch import Fetch, ProbeResponse, request_headers
from vastproxy.services.backends.pages import Page, page_of
from vastproxy.services.errors import BackendError, ChannelRefused

#: SGLang's /health waits at least 1 s for a generated token; a faster 503 says that it is starting or
#: stopping (SGLang 0.5, http_server.py: health_generate).
SGLANG_GENERATION_S = 1.0

_LOADING_WORDS = frozenset({"loading", "loading model", "starting", "initializing", "warming up"})
_FAILING_WORDS = frozenset({"unhealthy", "error", "failed", "down", "stopped", "not ready"})


@dataclass(frozen=True, slots=True)
class HealthReport:
    """One look at an engine. `detail` is a phrase for people; `latency_s` is how long the answer took."""

    status: HealthStatus
    detail: str
    latency_s: float


async def check_health(
    fetch: Fetch,
    target: EngineTarget,
    *,
    token: str | None,
    timeout_s: float,
    clock: Callable[[], float] | None = None,
) -> HealthReport:
    """Ask the engine how it is, at most `timeout_s` seconds.

    SGLang needs 25 s: its answer takes at least 1 s, and up to 20 s under long prefills. Raises TunnelLost
    or TunnelRefused when the instance cannot be reached; everything else is in the report.
    """
    now = clock or asyncio.get_running_loop().time
    start = now()
    try:
        answer = await fetch(
            target.port, target.health_path, headers=request_headers(token), timeout_s=timeout_s
        )
    except ChannelRefused:
        detail = f"port {target.port} is closed"
        return HealthReport(HealthStatus.CLOSED, detail, now() - start)
    except BackendError as error:
        return HealthReport(HealthStatus.UNHEALTHY, str(error), now() - start)
    latency_s = now() - start
    status, detail = read_health(target, answer, latency_s)
    return HealthReport(status, detail, latency_s)


def read_health(target: EngineTarget, answer: ProbeResponse, latency_s: float) -> tuple[HealthStatus, str]:
    """What an answer to the health request means for an engine of this kind."""
    asked = f"port {target.port} answered {answer.status} to {target.health_path}"
    if answer.is_refusal:
        return HealthStatus.UNAUTHORIZED, f"{asked}: it does not accept our token (set engines.api_key)"
    if answer.is_placeholder:
        return (
            HealthStatus.UNHEALTHY,
            f"port {target.port} is answered by the web gateway: the engine is down",
        )
    if answer.is_page:
        return HealthStatus.UNHEALTHY, f"port {target.port} answers with a web page: no engine there"
    page = page_of(answer)
    says_loading = page is Page.LOADING and answer.status in (200, 503)
    if says_loading or is_llamacpp_loading(answer) or _says(answer) in _LOADING_WORDS:
        return HealthStatus.LOADING, "the model is loading"
    if target.kind is EngineKind.SGLANG and answer.status == 503 and latency_s < SGLANG_GENERATION_S:
        return HealthStatus.LOADING, "the engine is starting"
    if answer.status != 200:
        return HealthStatus.UNHEALTHY, asked
    if not _is_proof(target, answer, page):
        return HealthStatus.UNHEALTHY, f"{asked}, but not as {target.kind} does"
    return HealthStatus.HEALTHY, "ok"


def _is_proof(target: EngineTarget, answer: ProbeResponse, page: Page | None) -> bool:
    """Is this 200 one that the engine itself gives?"""
    if target.health_path == "/v1/models":
        return is_model_list(answer)
    if page is not None:  # nobody knows in which words an unknown engine says that it is well
        return target.kind is EngineKind.OPENAI and page is Page.TEXT and not _says_failing(answer)
    if target.kind is EngineKind.OLLAMA:
        return isinstance(answer.json_object().get("version"), str)
    said = _says(answer)
    if said is None:  # SGLang, vLLM and TGI send an empty body
        return target.kind is not EngineKind.LLAMACPP
    return said not in _FAILING_WORDS


def _says_failing(answer: ProbeResponse) -> bool:
    return answer.body.decode("utf-8", "replace").strip(' \t\r\n".!').lower() in _FAILING_WORDS


def _says(answer: ProbeResponse) -> str | None:
    """The word in `{"status": "…"}`, in lower case."""
    if not answer.body:  # the usual answer of a healthy engine, a thousand times every few seconds
        return None
    status = answer.json_object().get("status")
    return status.lower() if isinstance(status, str) else None
