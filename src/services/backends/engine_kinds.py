"""Which engine is it? Pure reading of the answers that tell them apart.

A status of 200 proves nothing: Jupyter, the instance portal and Caddy's placeholder answer 200 to much.
Every sign is a shape of JSON that only that engine sends.

Sources, 2026-08: SGLang 0.5 `entrypoints/http_server.py`; vLLM 0.11 to 0.2x `entrypoints/serve`; llama.cpp
`tools/server`; Ollama `server/routes.go`; text-generation-inference 3.3 `router/src/server.rs`;
`transformers serve` 5.23, which was also asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vastproxy.services.backends.fetch import ProbeResponse

MAX_MODELS = 512
MAX_NAME_CHARS = 256  # Hugging Face ids end at 96; paths of local models are longer
MAX_VERSION_CHARS = 64


class EngineKind(StrEnum):
    SGLANG = "sglang"
    VLLM = "vllm"
    LLAMACPP = "llamacpp"
    OLLAMA = "ollama"
    TGI = "tgi"
    OPENAI = "openai"
    """Something else that speaks the OpenAI API."""


class HealthStatus(StrEnum):
    HEALTHY = "healthy"
    LOADING = "loading"
    """There, and will serve later."""
    UNAUTHORIZED = "unauthorized"
    """There, but does not accept our token."""
    CLOSED = "closed"
    """Nobody listens on the port any more."""
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """An engine inside an instance, and how to ask for its health."""

    kind: EngineKind
    port: int
    version: str | None = None
    needs_token: bool = False
    """Seen to refuse a request without the token, as everything behind Caddy does."""
    problem: HealthStatus | None = None
    """LOADING or UNAUTHORIZED when the detection ran into it. The rest is then provisional: detect again."""
    health_path: str = "/health"

    @property
    def trouble(self) -> str:
        """`problem` as a phrase for people; empty when there is none."""
        if self.problem is HealthStatus.UNAUTHORIZED:
            return f"port {self.port} does not accept our token (set engines.api_key)"
        if self.problem is HealthStatus.LOADING:
            return f"the engine on port {self.port} is starting"
        return ""


@dataclass(frozen=True, slots=True)
class Sign:
    """One question, and how to see from the answer that an engine of `kind` gave it."""

    path: str
    kind: EngineKind
    matches: Callable[[Mapping[str, Any]], bool]
    version_key: str | None = None


def _is_sglang(answer: Mapping[str, Any]) -> bool:
    return isinstance(answer.get("model_path"), str) and (
        "is_generation" in answer or "tokenizer_path" in answer
    )


def _is_version(answer: Mapping[str, Any]) -> bool:
    return isinstance(answer.get("version"), str) and len(answer) <= 3


def _is_llamacpp(answer: Mapping[str, Any]) -> bool:
    has_settings = isinstance(answer.get("default_generation_settings"), dict)
    return has_settings or isinstance(answer.get("total_slots"), int)


def _is_tgi(answer: Mapping[str, Any]) -> bool:
    return isinstance(answer.get("model_id"), str) and (
        answer.get("router") == "text-generation-router" or "max_total_tokens" in answer
    )


#: In the order in which they are asked. SGLang also answers some of Ollama's paths, so it comes first.
SIGNS: tuple[Sign, ...] = (
    Sign("/get_model_info", EngineKind.SGLANG, _is_sglang),
    Sign("/model_info", EngineKind.SGLANG, _is_sglang),  # the newer name of the same
    Sign("/version", EngineKind.VLLM, _is_version, "version"),
    Sign("/api/version", EngineKind.OLLAMA, _is_version, "version"),
    Sign("/props", EngineKind.LLAMACPP, _is_llamacpp, "build_info"),
    Sign("/info", EngineKind.TGI, _is_tgi, "version"),
)

#: `owned_by` in /v1/models. TGI puts the model's own name there.
OWNERS: Mapping[str, EngineKind] = {
    "sglang": EngineKind.SGLANG,
    "vllm": EngineKind.VLLM,
    "llamacpp": EngineKind.LLAMACPP,
    "library": EngineKind.OLLAMA,
}


def read_sign(sign: Sign, answer: ProbeResponse) -> tuple[EngineKind, str | None] | None:
    """The kind and version that `answer` to `sign.path` gives away; None when it gives away nothing."""
    if answer.status != 200 or answer.is_placeholder:
        return None
    shape = answer.json_object()
    if not sign.matches(shape):
        return None
    version = shape.get(sign.version_key) if sign.version_key else None
    return sign.kind, version[:MAX_VERSION_CHARS] if isinstance(
        version, str
    ) and version.isprintable() else None


def is_llamacpp_loading(answer: ProbeResponse) -> bool:
    """llama.cpp answers every path so until its model is loaded: 503, `Loading model`."""
    if answer.status != 503:
        return False
    shape = answer.json_object()
    error = shape.get("error")
    message = error.get("message") if isinstance(error, dict) else shape.get("status")
    return isinstance(message, str) and message.lower() == "loading model"


def _rows(answer: ProbeResponse) -> list[Any] | None:
    """The entries of a model list in any of its shapes; None when it is no model list."""
    if answer.status != 200 or answer.is_placeholder:
        return None
    shape = answer.json()
    if isinstance(shape, list):
        return shape if all(isinstance(row, dict) and "id" in row for row in shape) else None
    if not isinstance(shape, dict):
        return None
    for key in ("data", "models"):
        if isinstance(shape.get(key), list):
            return list(shape[key])
    return [] if shape.get("object") == "list" else None


def is_model_list(answer: ProbeResponse) -> bool:
    return _rows(answer) is not None


def read_owner(answer: ProbeResponse) -> tuple[bool, EngineKind | None]:
    """Does the model list name an owner at all, and is it one that we know?"""
    owners = [row.get("owned_by") for row in (_rows(answer) or [])[:MAX_MODELS] if isinstance(row, dict)]
    named = [owner for owner in owners if isinstance(owner, str) and owner]
    return bool(named), next((OWNERS[owner] for owner in named if owner in OWNERS), None)


def read_models(answer: ProbeResponse) -> tuple[str, ...] | None:
    """The names in a model list, aliases included; None when it is no model list."""
    rows = _rows(answer)
    if rows is None:
        return None
    names: dict[str, None] = {}
    for row in rows[:MAX_MODELS]:
        if isinstance(row, str):
            row = {"id": row}
        if not isinstance(row, dict):
            continue
        name = next((row[key] for key in ("id", "name", "model") if isinstance(row.get(key), str)), None)
        aliases = row.get("aliases")
        for each in (name, *(aliases if isinstance(aliases, list) else ())):
            if isinstance(each, str) and _is_name(each):
                names.setdefault(each)
    return tuple(names)[:MAX_MODELS]


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARS and name.isprintable() and name == name.strip()


def describes_openai_api(answer: ProbeResponse) -> bool:
    """Does an OpenAPI document list what the OpenAI API offers for text?

    `transformers serve` 5.23 answers 500 to /v1/models while its model cache is missing, although it serves.
    """
    paths = answer.json_object().get("paths") if answer.status == 200 else None
    offered = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
    return isinstance(paths, dict) and any(path in paths for path in offered)
