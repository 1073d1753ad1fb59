"""A request for our own pages: the adapter between a `Client` and an ASGI application."""

import asyncio
import logging
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError, own_failure, too_large
from vastproxy.api.http.request import Request
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import lines_of
from vastproxy.services.tasks import Tasks

logger = logging.getLogger(__name__)

#: Our own pages take small forms, no prompts.
MAX_BODY_BYTES = 1 << 20


def path_of(request: Request) -> str:
    """The path as ASGI has it: decoded."""
    path = request.path.decode("latin-1")
    return unquote(path, encoding="utf-8", errors="replace") if "%" in path else path


def scope_of(request: Request, client: Client) -> Scope:
    """The request as ASGI describes it (HTTP spec 2.3)."""
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"1.{request.minor}",
        "method": request.method.decode("latin-1"),
        "scheme": client.scheme,
        "path": path_of(request),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": request.headers,
        "client": (client.peer, 0) if client.peer else None,
        "server": None,
        "state": {},
        "extensions": {},
    }


class AsgiCall:
    """A `Handler` that lets an application answer, in a task of its own."""

    def __init__(self, app: ASGIApp, request: Request, client: Client, tasks: Tasks) -> None:
        self._app = app
        self._request = request
        self._client = client
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._body = bytearray()
        self._complete = False
        self._received = False
        self._left = False
        self._over = False
        self._start: Message | None = None
        self._responded = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # ── Handler ────────────────────────────────────────────────────────────────────────────────

    def begin(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.begin`."""
        self._body += data
        self._complete = complete
        if self._request.expects_continue:
            self._client.interim(100, b"")
        self._task = self._tasks.spawn(self._run(), name="page")

    def client_data(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.client_data`."""
        self._body += data
        self._complete = complete
        if len(self._body) > MAX_BODY_BYTES:
            self.client_failed(too_large(MAX_BODY_BYTES, setting=None))
        self._news.set()

    def client_writable(self) -> None:
        """See `Handler.client_writable`."""
        self._writable.set()

    def client_left(self) -> None:
        """See `Handler.client_left`."""
        self._over = self._left = True
        self._news.set()
        self._writable.set()

    def client_failed(self, error: ApiError) -> None:
        """See `Handler.client_failed`."""
        if self._over:
            return
        self._left = True
        self._news.set()
        self._answer(error)

    # ── ASGI ───────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        try:
            await self._app(scope_of(self._request, self._client), self._receive, self._send)
        except Exception:
            logger.exception("%s failed", self._request.path.decode("latin-1"))
        except asyncio.CancelledError:  # the server's end
            if not self._over:
                self._over = True
                self._client.break_off()
            raise
        if not self._over:
            self._answer(own_failure())

    def _answer(self, error: ApiError) -> None:
        self._over = True
        if self._responded:
            self._client.break_off()
            return
        body = error.body()
        head_only = self._request.method == b"HEAD"
        self._client.respond(
            error.status,
            error.lines(len(body)),
            length=len(body),
            has_body=not head_only,
            data=b"" if head_only else body,
            last=True,
        )

    async def _receive(self) -> Message:
        while not (self._left or self._over) and (self._received or not (self._body or self._complete)):
            self._news.clear()
            await self._news.wait()
        if self._left or self._over:
            return {"type": "http.disconnect"}
        data = bytes(self._body)
        self._body.clear()
        self._received = self._complete
        return {"type": "http.request", "body": data, "more_body": not self._complete}

    async def _send(self, message: Message) -> None:
        if self._client.write_paused and not self._over:
            self._writable.clear()
            await self._writable.wait()
        if self._over:
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), last=not message.get("more_body", False))

    def _send_body(self, data: bytes, *, last: bool) -> None:
        start, self._start = self._start, None
        self._over = last
        if start is not None:
            self._respond(start, data, last=last)
        elif last:
            self._client.finish(data)
        else:
            self._client.send(data)
        if self._over:
            self._news.set()

    def _respond(self, start: Message, data: bytes, *, last: bool) -> None:
        self._responded = True
        headers: list[Header] = [(name.lower(), value) for name, value in start.get("headers", [])]
        status: int = start["status"]
        fields: dict[bytes, Any] = dict(headers)
        length = int(fields[b"content-length"]) if b"content-length" in fields else None
        if self._request.method == b"HEAD" or status in (204, 304):
            self._over = True
            self._client.respond(status, lines_of(headers), length=length, has_body=False, last=True)
        else:
            self._client.respond(status, lines_of(headers), length=length, data=data, last=last)
