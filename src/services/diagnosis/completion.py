"""A real request to an engine: one token, the cheapest proof that it serves. Costs what one token costs."""

import asyncio
import json
from typing import Any

from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.fetch import Fetch, ProbeResponse, request_headers
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.errors import BackendError, ChannelRefused, TunnelError
from vastproxy.services.tunnels.publickey import printable

#: How long it may take; a busy engine lets it wait behind others.
LIMIT_S = 60.0
_TITLE = "completion"


async def ask_for_a_token(
    fetch: Fetch, engine: DiscoveredEngine, instance_id: int, *, token: str | None, limit_s: float = LIMIT_S
) -> Check:
    """Ask for one token, of a chat first, and where the model has none of a plain completion."""
    if not engine.models:
        detail = "not tried: no model is known by name"
        return Check("completion", _TITLE, Verdict.SKIP, detail, instance=instance_id)
    clock, model = asyncio.get_running_loop().time, engine.models[0]
    begun = clock()
    try:
        answer = await _ask(fetch, engine.target.port, "/v1/chat/completions", _chat(model), token, limit_s)
        if answer.status in (400, 404, 405, 501):  # embeddings, and models without a template for chats
            plain = await _ask(fetch, engine.target.port, "/v1/completions", _plain(model), token, limit_s)
            answer = plain if plain.status == 200 else answer
    except (BackendError, ChannelRefused, TunnelError) as error:
        return _failed(str(error), instance_id)
    return judge(answer, model, clock() - begun, instance_id)


def judge(answer: ProbeResponse, model: str, took_s: float, instance_id: int) -> Check:
    """What an answer to it means. Pure."""
    choices = answer.json_object().get("choices")
    if answer.status == 200 and isinstance(choices, list) and choices:
        detail = f"a token of {model} after {took_s * 1000:.0f} ms"
        return Check("completion", _TITLE, Verdict.OK, detail, instance=instance_id)
    said = _said(answer)
    return _failed(f"{model}: HTTP {answer.status}" + (f", {said}" if said else ""), instance_id)


def _failed(detail: str, instance_id: int) -> Check:
    fix = f"`vastproxy logs {instance_id}` shows what the engine makes of it; a client would see the same"
    return Check("completion", _TITLE, Verdict.FAIL, detail, fix, instance_id)


async def _ask(
    fetch: Fetch, port: int, path: str, body: dict[str, Any], token: str | None, limit_s: float
) -> ProbeResponse:
    headers = {**request_headers(token), "content-type": "application/json"}
    sent = json.dumps(body).encode()
    return await fetch(port, path, method="POST", headers=headers, body=sent, timeout_s=limit_s)


def _chat(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}


def _plain(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1, "prompt": "Hello"}


def _said(answer: ProbeResponse) -> str:
    """The engine's own words about an error, in one line."""
    shape = answer.json_object()
    error = shape.get("error", shape)
    message = error.get("message") if isinstance(error, dict) else error
    return printable(str(message)) if message else ""
