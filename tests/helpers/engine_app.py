"""A stand-in inference engine as an ASGI application: real HTTP on its outside, invented tokens inside.

It knows how each kind of engine answers the paths it is recognised by (tests/fixtures/engines, recorded
from real engines or made after their sources), and can be told to be slow, broken, loading or locked.

As SGLang it also does with the `rid` of a request what SGLang does (`engine_request.Running`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from tests.helpers.engine_answers import (
    LOADING,
    PAGE,
    Answer,
    as_json,
    asks_usage,
    chunk,
    completion,
    event,
    model_list,
    own_path,
    usage_chunk,
)
from tests.helpers.engine_request import RecordedRequest, Refused, Running, first_of

__all__ = ["DiedMidStream", "EngineApp", "RecordedRequest"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class DiedMidStream(Exception):
    """Makes the server drop the connection without ending the response."""


class EngineApp:
    """The switches are plain attributes; change them at any time.

    kind: sglang, vllm, llamacpp, ollama, tgi, openai, or the decoys jupyter and caddy (nothing behind it).
    token: wanted as bearer, on everything (`guards="all"`: Caddy, SGLang) or under /v1 (`"v1"`: vLLM).
    """

    def __init__(
        self,
        kind: str = "sglang",
        *,
        models: Sequence[str] = ("m",),
        tokens_per_s: float = 200.0,
        token: str | None = None,
        guards: str = "all",
    ) -> None:
        self.kind = kind
        self.models = tuple(models)
        self.tokens_per_s = tokens_per_s
        self.token = token
        self.guards = guards
        self.requests: deque[RecordedRequest] = deque(maxlen=10_000)
        """Those that have come whole."""
        self.begun: deque[RecordedRequest] = deque(maxlen=10_000)
        """All, from their heads on."""
        self.active = 0
        self._generating = 0
        self.peak_active = 0
        """The most answers that were being made at the same time."""
        self.aborted: deque[str] = deque(maxlen=10_000)
        """The ids given to /abort_request, also those of nothing."""
        self.ignores_closed_streams = False
        """Go on generating for a caller that has left, and forget its id, as SGLang 0.5.18 does: only an abort that
        comes before ends it."""
        self.header_delay_s = 0.0
        self.health_delay_s = 0.0
        self.upload_bytes_per_s: float | None = None
        self.die_after_tokens: int | None = None
        self.fail_status: int | None = None
        """Answer every generation with this status, as an overloaded engine does."""
        self._state = "healthy"
        self._health_status = 503
        self._pause_at: int | None = None
        self._go_on = asyncio.Event()
        self.paused = asyncio.Event()
        """Set while a stream waits at `pause_after`."""
        self._running = Running()
        self._arrived = asyncio.Condition()

    # -- switches ------------------------------------------------------------------------------------

    def loading(self) -> None:
        """As after the start: llama.cpp answers 503 to everything, the others to /health."""
        self._state = "loading"

    def healthy(self) -> None:
        self._state = "healthy"

    def fail_health(self, status: int = 503) -> None:
        """/health fails, everything else goes on."""
        self._state, self._health_status = "failing", status

    def pause_after(self, tokens: int) -> None:
        """Streams stop after so many tokens until `resume`."""
        self._pause_at = tokens
        self._go_on.clear()
        self.paused.clear()

    def resume(self) -> None:
        self._pause_at = None
        self._go_on.set()
        self.paused.clear()

    async def wait_for_requests(self, count: int, *, path: str | None = None) -> list[RecordedRequest]:
        """The requests so far (to `path`), once there are at least `count`."""
        return await self._wait_for(self.requests, count, path)

    async def wait_for_begun(self, count: int, *, path: str | None = None) -> list[RecordedRequest]:
        """The same, of requests whose body may still be coming."""
        return await self._wait_for(self.begun, count, path)

    async def _wait_for(
        self, requests: Iterable[RecordedRequest], count: int, path: str | None
    ) -> list[RecordedRequest]:
        def seen() -> list[RecordedRequest]:
            return [each for each in requests if path is None or each.path == path]

        async with self._arrived:
            await self._arrived.wait_for(lambda: len(seen()) >= count)
        return seen()

    # -- ASGI ----------------------------------------------------------------------------------------

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not spoken here")
        request = RecordedRequest(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=[(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]],
        )
        try:
            await self._note(self.begun, request)
            request.body = await self._read_body(receive, request)
            if request.disconnected.is_set():
                return
            await self._note(self.requests, request)
            await self._answer(request, receive, send)
        finally:
            request.ended_at = asyncio.get_running_loop().time()
            request.ended.set()

    async def _note(self, where: deque[RecordedRequest], request: RecordedRequest) -> None:
        async with self._arrived:
            where.append(request)
            self._arrived.notify_all()

    async def _read_body(self, receive: Receive, request: RecordedRequest) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            piece = message.get("body", b"")
            body += piece
            if self.upload_bytes_per_s:
                await asyncio.sleep(len(piece) / self.upload_bytes_per_s)
            if message["type"] == "http.disconnect":
                request.note_disconnect()
                return bytes(body)
            if not message.get("more_body"):
                return bytes(body)

    async def _answer(self, request: RecordedRequest, receive: Receive, send: Send) -> None:
        if not self._is_welcome(request):
            await _reply(send, as_json({"error": {"message": "Unauthorized", "code": 401}}, 401))
        elif request.method == "POST" and request.path in self._generating_paths:
            await self._generate(request, receive, send)
        elif request.method == "POST" and request.path == "/abort_request" and self.kind == "sglang":
            await _reply(send, self._abort(request))
        else:
            if request.path == "/health":
                await asyncio.sleep(self.health_delay_s)
            await _reply(send, self._look_up(request))

    @property
    def _generating_paths(self) -> tuple[str, ...]:
        own = ("/generate",) if self.kind == "sglang" else ()
        return ("/v1/chat/completions", "/v1/completions", *own)

    def _is_welcome(self, request: RecordedRequest) -> bool:
        guarded = self.guards == "all" or request.path.startswith("/v1/")
        return not (self.token and guarded) or request.header("authorization") == f"Bearer {self.token}"

    # -- plain answers -------------------------------------------------------------------------------

    def _look_up(self, request: RecordedRequest) -> Answer:
        if self.kind == "jupyter":
            return (200 if request.path in ("/", "/login") else 404), "text/html", PAGE
        if self.kind == "caddy":
            return 502, "text/html", PAGE
        if self.kind == "llamacpp" and self._state == "loading":
            return as_json(LOADING, 503)
        if request.path.startswith("/echo"):
            return self._echo(request)
        if request.path == "/large":
            return 200, "application/octet-stream", b"x" * int(parse_qs(request.query.decode())["bytes"][0])
        if request.path == "/health" and self.kind != "ollama":
            return self._health()
        if request.path == "/v1/models":
            return model_list(self.kind, self.models)
        return own_path(self.kind, request.path, self.models)

    def _health(self) -> Answer:
        if self._state != "healthy":
            return (503 if self._state == "loading" else self._health_status), "text/plain", b""
        if self.kind in ("llamacpp", "openai"):
            return as_json({"status": "ok"})
        return 200, "text/plain", b""

    def _echo(self, request: RecordedRequest) -> Answer:
        return as_json(
            {
                "method": request.method,
                "path": request.raw_path.decode("latin-1"),
                "query": request.query.decode("latin-1"),
                "headers": request.headers,
                "body": request.body.decode("latin-1"),
            }
        )

    def _abort(self, request: RecordedRequest) -> Answer:
        rid = str(request.json.get("rid", ""))
        self.aborted.append(rid)
        self._running.abort(rid)
        return 200, "text/plain", b""

    # -- generation ----------------------------------------------------------------------------------

    async def _generate(self, request: RecordedRequest, receive: Receive, send: Send) -> None:
        wanted = request.json
        if self.kind == "llamacpp" and self._state == "loading":
            await _reply(send, as_json(LOADING, 503))
            return
        if self.fail_status is not None:
            error = {"message": "told to fail", "type": "server_error", "code": self.fail_status}
            await _reply(send, as_json({"error": error}, self.fail_status))
            return
        try:
            self._running.add(request, wanted if self.kind == "sglang" else {})
        except Refused as refused:
            await _reply(send, as_json({"error": {"message": str(refused), "code": 400}}, 400))
            return
        self.active += 1
        self._generating += 1
        self.peak_active = max(self.peak_active, self._generating)
        watch = asyncio.get_running_loop().create_task(self._watch(receive, request))
        try:
            await self._produce(request, wanted, send)
        finally:
            self._generating -= 1  # at once: who has the answer may send the next request
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self.active -= 1
            self._running.remove(request)

    async def _produce(self, request: RecordedRequest, wanted: dict[str, Any], send: Send) -> None:
        ends = self._ends(request)
        if self.header_delay_s:
            await first_of(*ends, limit_s=self.header_delay_s)
        is_chat, is_stream = request.path.endswith("chat/completions"), bool(wanted.get("stream"))
        if is_stream:
            await _start(send, 200, [(b"content-type", b"text/event-stream")])
        count = 0
        own_id = {"id": request.rid} if self.kind == "sglang" else {}
        async for count in self._tokens(int(wanted.get("max_tokens") or 16), ends):
            if is_stream:
                await _more(send, event(chunk(wanted, is_chat, f"t{count} ", None) | own_id))
        reason = "abort" if request.aborted.is_set() else "length"
        if request.disconnected.is_set():
            return
        if not is_stream:
            text = "".join(f"t{n} " for n in range(1, count + 1))
            await _reply(send, as_json(completion(wanted, is_chat, text, reason, count) | own_id))
            return
        await _more(send, event(chunk(wanted, is_chat, "", reason) | own_id))
        if asks_usage(wanted) and self.kind in ("sglang", "vllm", "llamacpp"):
            await _more(send, event(usage_chunk(wanted, is_chat, count) | own_id))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    def _ends(self, request: RecordedRequest) -> tuple[asyncio.Event, ...]:
        """What ends the generation of an answer."""
        return (request.aborted,) if self.ignores_closed_streams else (request.aborted, request.disconnected)

    async def _tokens(self, count: int, ends: tuple[asyncio.Event, ...]) -> Any:
        for number in range(1, count + 1):
            if any(end.is_set() for end in ends):
                return
            if self.die_after_tokens is not None and number > self.die_after_tokens:
                raise DiedMidStream
            if self._pause_at is not None and number > self._pause_at:
                self.paused.set()
                await first_of(self._go_on, *ends)
                if any(end.is_set() for end in ends):
                    return
            await asyncio.sleep(1 / self.tokens_per_s)
            yield number

    async def _watch(self, receive: Receive, request: RecordedRequest) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        request.note_disconnect()
        if self.ignores_closed_streams:
            self._running.remove(request)


async def _start(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def _more(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _reply(send: Send, answer: Answer) -> None:
    status, kind, body = answer
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    if status == 502 and kind == "text/html":
        headers.append((b"x-portal-placeholder", b"true"))
    await _start(send, status, headers)
    await send({"type": "http.response.body", "body": body})
