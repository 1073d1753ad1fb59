"""What runs inside an instance: find the engine behind the candidate ports, read its models, abort its work.

How an engine gives itself away is in `engine_kinds`, how it says that it is well in `engine_health`.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vastproxy.services.backends.engine_health import HealthReport, check_health
from vastproxy.services.backends.engine_kinds import (
    SIGNS,
    EngineKind,
    EngineTarget,
    HealthStatus,
    describes_openai_api,
    is_llamacpp_loading,
    is_model_list,
    read_models,
    read_owner,
    read_sign,
)
from vastproxy.services.backends.fetch import Fetch, ProbeResponse, request_headers
from vastproxy.services.errors import BackendError, ChannelRefused

__all__ = [
    "EngineKind",
    "EngineTarget",
    "Fetch",
    "HealthReport",
    "HealthStatus",
    "ProbeResponse",
    "abort_request",
    "check_health",
    "detect",
    "list_models",
]

#: Ports asked at the same time. Each is one stream over the SSH connection that also carries traffic.
MAX_PARALLEL_PORTS = 4


@dataclass(frozen=True, slots=True)
class _Finding:
    """`is_sure` is False when it may as well be something else that is closed to us or starting."""

    target: EngineTarget
    is_sure: bool = True


class _NoEngine(Exception):
    """Whatever listens there does not answer as an engine would."""


class _Door:
    """One port. The first failure ends the examination; later on a single path may fail."""

    def __init__(self, fetch: Fetch, port: int, token: str | None, timeout_s: float) -> None:
        self._fetch = fetch
        self.port = port
        self._token = token
        self._timeout_s = timeout_s
        self._answers = 0
        self._failures = 0

    async def ask(self, path: str, *, with_token: bool = True) -> ProbeResponse | None:
        headers = request_headers(self._token if with_token else None)
        try:
            answer = await self._fetch(self.port, path, headers=headers, timeout_s=self._timeout_s)
        except (BackendError, ChannelRefused) as error:
            self._failures += 1
            if not self._answers or self._failures > 1:
                raise _NoEngine from error
            return None
        self._answers += 1
        return answer

    async def refuses_strangers(self) -> bool:
        """Does it take the token to be served?"""
        if not self._token:
            return False
        try:
            answer = await self.ask("/v1/models", with_token=False)
        except _NoEngine:  # it has answered often enough to be one
            return False
        return answer is not None and answer.is_refusal


async def detect(
    fetch: Fetch, ports: Sequence[int], *, token: str | None, timeout_s: float
) -> EngineTarget | None:
    """The engine on the first of `ports` that has one; None when none has.

    `token` is sent as bearer with every request; `timeout_s` bounds each of them (about ten on a port that
    answers, one on a closed port). Ports are examined side by side, the first in order wins; a port that
    only might hold an engine (it wants another token, or answers 503) is named if no other port does better.
    Raises TunnelLost or TunnelRefused when the instance cannot be reached.
    """
    gate = asyncio.Semaphore(MAX_PARALLEL_PORTS)

    async def examine(port: int) -> _Finding | None:
        async with gate:
            return await _examine(_Door(fetch, port, token, timeout_s))

    unsure: EngineTarget | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(examine(port), name=f"detect/{port}") for port in dict.fromkeys(ports)]
            for task in tasks:
                finding = await task
                if finding is None:
                    continue
                if finding.is_sure:
                    for other in tasks:
                        other.cancel()
                    return finding.target
                unsure = unsure or finding.target
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return unsure


async def _examine(door: _Door) -> _Finding | None:
    try:
        finding = await _identify(door) or await _identify_unknown(door)
        if finding is None or finding.target.problem:
            return finding
        needs_token = await door.refuses_strangers()
        return replace(finding, target=replace(finding.target, needs_token=needs_token))
    except _NoEngine:
        return None


async def _identify(door: _Door) -> _Finding | None:
    """The engines that have a path of their own."""
    for sign in SIGNS:
        answer = await door.ask(sign.path)
        if answer is None:
            continue
        if is_llamacpp_loading(answer):
            return _Finding(EngineTarget(EngineKind.LLAMACPP, door.port, problem=HealthStatus.LOADING))
        seen = read_sign(sign, answer)
        if seen is not None and (finding := await _confirm(door, *seen)):
            return finding
    return None


async def _confirm(door: _Door, kind: EngineKind, version: str | None) -> _Finding | None:
    """Settle what a sign leaves open. A version alone is said by many (Open WebUI has /api/version), so
    those need a model list beside it; a key may guard /v1 alone (vLLM)."""
    models = await door.ask("/v1/models")
    if models is None:
        return _Finding(_target(kind, door.port, version))
    if models.is_refusal:
        return _Finding(_target(kind, door.port, version, HealthStatus.UNAUTHORIZED))
    if kind in (EngineKind.VLLM, EngineKind.OLLAMA) and not is_model_list(models):
        tags = await door.ask("/api/tags") if kind is EngineKind.OLLAMA else None  # an old one
        return _Finding(_target(kind, door.port, version)) if tags and is_model_list(tags) else None
    names_owner, owner = read_owner(models)
    if owner is not None and owner is not kind:
        kind, version = owner, None
    elif kind is EngineKind.VLLM and names_owner and owner is None:
        kind, version = EngineKind.OPENAI, None
    return _Finding(_target(kind, door.port, version))


async def _identify_unknown(door: _Door) -> _Finding | None:
    """Whatever else speaks the OpenAI API. Numbered by how much is known:

    1. It lists models: an engine, and perhaps the list names a kind.
    2. It wants another token: an engine if it is well all the same, else perhaps one.
    3. It is well and documents the OpenAI API: an engine whose list is broken.
    4. It says 503 without a page: perhaps an engine that is starting.
    """
    models, health = await door.ask("/v1/models"), await door.ask("/health")
    if health is not None and health.is_page:
        health = None
    is_well = health is not None and health.status == 200
    if models is not None and is_model_list(models):
        kind = read_owner(models)[1] or EngineKind.OPENAI
        says_health = health is not None and health.status in (200, 503) and kind is not EngineKind.OLLAMA
        path = "/health" if says_health else "/v1/models"
        return _Finding(replace(_target(kind, door.port), health_path=path))
    if models is not None and models.is_refusal:
        locked = _target(EngineKind.OPENAI, door.port, problem=HealthStatus.UNAUTHORIZED)
        return _Finding(locked, is_sure=is_well)
    if health is not None and is_well and health.json_object():
        document = await door.ask("/openapi.json")
        described = document is not None and describes_openai_api(document)
        return _Finding(_target(EngineKind.OPENAI, door.port)) if described else None
    if health is not None and health.status == 503:
        return _Finding(_target(EngineKind.OPENAI, door.port, problem=HealthStatus.LOADING), is_sure=False)
    return None


def _target(
    kind: EngineKind, port: int, version: str | None = None, problem: HealthStatus | None = None
) -> EngineTarget:
    # Ollama has no /health.
    path = "/api/version" if kind is EngineKind.OLLAMA else "/health"
    needs_token = problem is HealthStatus.UNAUTHORIZED
    return EngineTarget(kind, port, version, needs_token=needs_token, problem=problem, health_path=path)


async def list_models(
    fetch: Fetch, target: EngineTarget, *, token: str | None, timeout_s: float
) -> tuple[str, ...] | None:
    """The names under which the engine serves models, at most 512 of at most 256 characters.

    None when they could not be read; empty when it lists none, as `transformers serve` does although it
    serves. Raises TunnelLost or TunnelRefused when the instance cannot be reached.
    """
    paths = ("/v1/models", "/api/tags") if target.kind is EngineKind.OLLAMA else ("/v1/models",)
    for path in paths:
        try:
            answer = await fetch(target.port, path, headers=request_headers(token), timeout_s=timeout_s)
        except (BackendError, ChannelRefused):
            continue
        names = read_models(answer)
        if names is not None:
            return names
    return None


def abort_request(kind: EngineKind) -> tuple[str, Callable[[str], bytes]] | None:
    """Where to POST, and the body for a request id, to end a request; None: closing its stream is the way.

    SGLang compares by prefix, so ids must be of one length (SGLang 0.5, scheduler.py: abort_request).
    """
    if kind is not EngineKind.SGLANG:
        return None
    return "/abort_request", lambda rid: json.dumps({"rid": rid}).encode()
