"""The OpenAI wire format: completions and chat completions, whole or as a stream of server-sent events.

An answer races its client: a listener notices when the client leaves and tells the engine.
"""

import asyncio
import json
import time
import uuid
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from vastproxy.simulator.engine import End, Engine, Generation, QueueFull
from vastproxy.simulator.replies import prompt_of


def openai_error(status: int, message: str, kind: str, param: str | None = None) -> JSONResponse:
    """An error as OpenAI's API and vLLM shape it."""
    error = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": error}, status)


class Completion:
    """The ASGI answer to one inference request."""

    def __init__(self, engine: Engine, body: dict[str, Any], prompt: str, *, chat: bool) -> None:
        self._engine, self._body, self._prompt, self._chat = engine, body, prompt, chat
        self._id = ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex
        rid = body.get("rid")
        self._rid = rid if isinstance(rid, str) and rid else self._id
        self._created = int(time.time())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener: asyncio.Task[None] | None = None
        try:
            async with self._engine.generation(self._rid, self._body, self._prompt) as work:
                loop = asyncio.get_running_loop()
                listener = loop.create_task(self._listen(work, receive), name=f"engine/listen-{self._rid}")
                answer = self._stream if self._body.get("stream") else self._whole
                await answer(work, scope, receive, send)
                if work.end is End.CRASHED:
                    # A dead process says nothing more; whoever carried the connection cuts it.
                    await listener
        except QueueFull:
            await self._refuse()(scope, receive, send)
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)

    async def _listen(self, work: Generation, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._engine.left(work)

    def _refuse(self) -> Response:
        if self._engine.flavour == "tgi":
            return JSONResponse({"error": "Model is overloaded", "error_type": "overloaded"}, 429)
        message = "server busy, please try again.  maximum pending requests exceeded"
        return JSONResponse({"error": message}, 503)

    async def _whole(self, work: Generation, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._engine.tokens(work)) as tokens:
            text = "".join([token async for token in tokens])
        if work.end is End.CRASHED:
            return
        finish = "abort" if work.end else work.reply.finish_reason
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        kind = "chat.completion" if self._chat else "text_completion"
        payload = self._envelope(kind) | {"choices": [choice], "usage": _usage(work)}
        await JSONResponse(payload)(scope, receive, send)

    async def _stream(self, work: Generation, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self._chat:
            await self._event(send, self._chunk({"role": "assistant", "content": ""}, None))
        async with aclosing(self._engine.tokens(work)) as tokens:
            async for token in tokens:
                await self._event(send, self._chunk({"content": token}, None))
        if work.end is End.CRASHED:
            return
        finish = "abort" if work.end else work.reply.finish_reason
        await self._event(send, self._chunk({"content": ""}, finish))
        options = self._body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            await self._event(send, self._envelope(self._chunk_kind) | {"choices": [], "usage": _usage(work)})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def _event(self, send: Send, payload: dict[str, Any]) -> None:
        line = b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": line, "more_body": True})

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _chunk(self, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        choice |= {"delta": delta} if self._chat else {"text": delta["content"]}
        return self._envelope(self._chunk_kind) | {"choices": [choice]}

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._engine.model}


def _usage(work: Generation) -> dict[str, Any]:
    prompt, made = work.reply.prompt_tokens, work.sent
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": None,
    }


async def complete(engine: Engine, request: Request, *, chat: bool) -> Response | Completion:
    """Check one inference request and make its answer; errors are OpenAI-shaped."""
    if engine.failing is not None:
        return openai_error(engine.failing, "engine failure", "InternalServerError")
    if engine.loading:
        return openai_error(503, "Loading model", "unavailable_error")
    try:
        body = json.loads(await request.body())
    except ValueError:
        return openai_error(400, "the body is not JSON", "BadRequestError")
    if not isinstance(body, dict):
        return openai_error(400, "the body is not an object", "BadRequestError")
    if (model := body.get("model", engine.model)) != engine.model:
        return openai_error(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
    prompt = prompt_of(body)
    field = "messages" if chat else "prompt"
    if prompt is None or field not in body:
        return openai_error(400, f"{field} is missing or empty", "BadRequestError", field)
    for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            return openai_error(400, f"{name} must be a positive whole number", "BadRequestError", name)
    return Completion(engine, body, prompt, chat=chat)
