"""The HTTP face of each kind of engine: the paths by which it is known, its health, its load, its models.

Sources: SGLang 0.5.18, vLLM 0.11, llama.cpp b6900, Ollama 0.12, text-generation-inference 3.3.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from vastproxy.simulator.engine import Engine, RecordedRequest
from vastproxy.simulator.metrics import llamacpp_metrics, sglang_metrics, tgi_metrics, vllm_metrics
from vastproxy.simulator.wire import complete, openai_error

OWNERS = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "llamacpp", "ollama": "library", "tgi": "tgi"}

#: Paths that answer without the key on an engine that wants one.
_OPEN_PATHS = ("/health", "/health_generate", "/metrics", "/ping")

Page = Callable[[Engine, Request], Awaitable[Response]]
Paths = Mapping[str, Page | tuple[str, Page]]


def create_engine_app(engine: Engine) -> ASGIApp:
    """The engine as an ASGI app. Every request is recorded in `engine.requests`."""
    routes = [
        _inference("/v1/chat/completions", engine, chat=True),
        _inference("/v1/completions", engine, chat=False),
        _route("/v1/models", _models, engine),
        *(_route(path, page, engine) for path, page in _PATHS[engine.flavour].items()),
    ]
    return _Recorder(engine, Starlette(routes=routes))


class _Recorder:
    """Records requests, holds them while the engine is frozen, and asks for the key where there is one."""

    def __init__(self, engine: Engine, app: ASGIApp) -> None:
        self._engine, self._app = engine, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, message = b"", await receive()
        while message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
            message = await receive()
        if message["type"] == "http.disconnect":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        self._engine.requests.append(RecordedRequest(scope["method"], path, query, headers, body))
        await self._engine.frozen()
        wanted = self._engine.require_token
        if wanted and path not in _OPEN_PATHS and headers.get("authorization") != f"Bearer {wanted}":
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
            return
        replay: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Any:
            return replay.pop() if replay else await receive()

        await self._app(scope, receive_again, send)


def _inference(path: str, engine: Engine, *, chat: bool) -> Route:
    async def serve(request: Request) -> Any:
        return await complete(engine, request, chat=chat)

    return Route(path, serve, methods=["POST"])


def _route(path: str, page: Page | tuple[str, Page], engine: Engine) -> Route:
    method, serve_page = page if isinstance(page, tuple) else ("GET", page)

    async def serve(request: Request) -> Response:
        return await serve_page(engine, request)

    return Route(path, serve, methods=[method])


def _json(make: Callable[[Engine], Any]) -> Page:
    async def page(engine: Engine, request: Request) -> Response:
        return JSONResponse(make(engine))

    return page


def _text(make: Callable[[Engine], str]) -> Page:
    async def page(engine: Engine, request: Request) -> Response:
        return PlainTextResponse(make(engine))

    return page


async def _models(engine: Engine, request: Request) -> Response:
    owner = OWNERS[engine.flavour]
    model = {"id": engine.model, "object": "model", "created": int(time.time()), "owned_by": owner}
    if engine.flavour in ("sglang", "vllm"):
        model |= {"root": engine.model, "parent": None, "max_model_len": 40_960}
    return JSONResponse({"object": "list", "data": [model]})


async def _health(engine: Engine, request: Request) -> Response:
    await engine.idle(engine.health_s)
    return Response(status_code=503 if engine.loading else 200)


async def _llamacpp_health(engine: Engine, request: Request) -> Response:
    if engine.loading:
        return openai_error(503, "Loading model", "unavailable_error")
    return JSONResponse({"status": "ok"})


async def _slots(engine: Engine, request: Request) -> Response:
    busy = engine.active_streams
    if busy >= engine.slots and request.query_params.get("fail_on_no_slot"):
        return openai_error(503, "no slot available", "unavailable_error")
    slots = [
        {"id": i, "n_ctx": 8192, "speculative": False, "is_processing": i < busy} for i in range(engine.slots)
    ]
    return JSONResponse(slots)


async def _abort(engine: Engine, request: Request) -> Response:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not (body.get("abort_all") or isinstance(body.get("rid"), str)):
        return JSONResponse(
            {"detail": [{"type": "missing", "loc": ["body", "rid"], "msg": "Field required"}]}, 422
        )
    engine.abort(None if body.get("abort_all") else body["rid"])
    return Response(status_code=200)


async def _flush_cache(engine: Engine, request: Request) -> Response:
    if engine.active_streams:
        return PlainTextResponse("Cache not flushed because there are pending requests.\n", 400)
    return PlainTextResponse("Cache flushed.\n")


def _model_info(engine: Engine) -> dict[str, Any]:
    names = {"model_path": engine.model, "tokenizer_path": engine.model}
    return {**names, "is_generation": True, "preferred_sampling_params": None, "weight_version": "default"}


def _server_info(engine: Engine) -> dict[str, Any]:
    return {"model_path": engine.model, "api_key": "simulated-secret", "port": 18_000, "version": "0.5.18"}


def _get_load(engine: Engine) -> list[dict[str, Any]]:
    busy, waiting = engine.active_streams, engine.waiting
    return [{"dp_rank": 0, "num_reqs": busy + waiting, "num_waiting_reqs": waiting, "num_tokens": 400 * busy}]


def _v1_loads(engine: Engine) -> dict[str, Any]:
    busy, capacity = engine.active_streams, 61_440
    used = min(capacity, 400 * busy)
    load = {
        "dp_rank": 0,
        "num_running_reqs": busy,
        "num_waiting_reqs": engine.waiting,
        "num_used_tokens": used,
        "num_total_tokens": used,
        "max_total_num_tokens": capacity,
        "token_usage": round(used / capacity, 4),
        "gen_throughput": round(busy * engine.tokens_per_s / engine.slowness, 1),
        "cache_hit_rate": 0.41,
        "utilization": round(engine.load, 4),
        "max_running_requests": engine.slots,
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"timestamp": now, "version": "0.5.18", "dp_rank_count": 1, "loads": [load]}


def _ollama_model(engine: Engine) -> dict[str, Any]:
    details = {"parent_model": "", "format": "gguf", "family": "qwen3", "families": ["qwen3"]}
    details |= {"parameter_size": "8.2B", "quantization_level": "Q4_K_M"}
    return {"name": engine.model, "model": engine.model, "size": 5_225_388_164, "digest": "500a1f067a9f"} | {
        "details": details
    }


def _ollama_tags(engine: Engine) -> dict[str, Any]:
    return {"models": [_ollama_model(engine) | {"modified_at": "2026-08-09T17:55:01.123456789Z"}]}


def _ollama_ps(engine: Engine) -> dict[str, Any]:
    more = {"expires_at": "2099-01-01T00:00:00Z", "size_vram": 5_225_388_164, "context_length": 4096}
    return {"models": [_ollama_model(engine) | more]}


def _llamacpp_props(engine: Engine) -> dict[str, Any]:
    settings = {"n_ctx": 8192, "params": {"temperature": 0.8}}
    return {"default_generation_settings": settings, "total_slots": engine.slots, "model_path": engine.model}


def _tgi_info(engine: Engine) -> dict[str, Any]:
    return {
        "model_id": engine.model,
        "model_sha": "0e9e39f2",
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": engine.slots + (engine.queue or 0),
        "max_input_tokens": 4095,
        "max_total_tokens": 4096,
        "router": "text-generation-router",
        "version": "3.3.5",
    }


_ok = _text(lambda engine: "")

_PATHS: dict[str, Paths] = {
    "sglang": {
        "/health": _health,
        "/health_generate": _health,
        "/ping": _ok,
        "/get_model_info": _json(_model_info),
        "/model_info": _json(_model_info),
        "/get_server_info": _json(_server_info),
        "/server_info": _json(_server_info),
        "/get_load": _json(_get_load),
        "/v1/loads": _json(_v1_loads),
        "/metrics": _text(sglang_metrics),
        "/abort_request": ("POST", _abort),
        "/flush_cache": ("POST", _flush_cache),
    },
    "vllm": {
        "/health": _health,
        "/ping": _ok,
        "/version": _json(lambda engine: {"version": "0.11.0"}),
        "/load": _json(lambda engine: {"server_load": engine.active_streams + engine.waiting}),
        "/metrics": _text(vllm_metrics),
    },
    "llamacpp": {
        "/health": _llamacpp_health,
        "/props": _json(_llamacpp_props),
        "/slots": _slots,
        "/metrics": _text(llamacpp_metrics),
    },
    "ollama": {
        "/": _text(lambda engine: "Ollama is running"),
        "/api/version": _json(lambda engine: {"version": "0.12.6"}),
        "/api/tags": _json(_ollama_tags),
        "/api/ps": _json(_ollama_ps),
    },
    "tgi": {
        "/health": _health,
        "/ping": _ok,
        "/info": _json(_tgi_info),
        "/metrics": _text(tgi_metrics),
    },
}
