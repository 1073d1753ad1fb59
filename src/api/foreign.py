"""A request that came through any ASGI server: the adapter between ASGI's messages and a `Handler`.

`vastproxy serve` does not come this way, its own protocol speaks to handlers directly. This is for who runs or mounts
the application elsewhere; ASGI knows no interim responses, trailers or changes of protocol.
"""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.types import Message, Receive, Scope, Send

from vastproxy.api.client import Handler
from vastproxy.api.http.request import Request
from vastproxy.services.http1.fields import marked
from vastproxy.services.http1.framing import CHUNKED, Framing, tokens
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import headers_of, request_fields
from vastproxy.services.tasks import Tasks

#: Bytes that wait for the server before the handler is told to stop.
HIGH_WATER_BYTES = 64 * 1024

#: What stands for itself in a path (RFC 3986 §3.3).
_UNQUOTED = "/!$&'()*+,;=:@"
#: More digits announce more than there is, and are counted as they come.
_LENGTH = re.compile(rb"[0-9]{1,18}")


def request_of(scope: Scope) -> Request:
    """The request that an ASGI server hands us (ASGI 3, HTTP spec 2.x)."""
    headers: list[Header] = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    table = request_fields()
    fields = [table.make(header) for header in headers]
    known = marked(fields)
    lengths = known.get(b"content-length", ())
    # HTTP/2 announces neither a length nor chunks, so without a length there may be a body of any.
    framing = CHUNKED
    if b"transfer-encoding" not in known and lengths and _LENGTH.fullmatch(lengths[-1]):
        framing = Framing(chunked=False, length=int(lengths[-1]))
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_UNQUOTED).encode("ascii")
    raw_path = (
        raw_path.removeprefix(quote(scope.get("root_path", ""), safe=_UNQUOTED).encode("ascii")) or b"/"
    )
    query: bytes = scope.get("query_string", b"")
    return Request(
        method=scope["method"].encode("latin-1"),
        target=raw_path + b"?" + query if query else raw_path,
        fields=fields,
        minor=1,
        framing=framing,
        connection=tokens(known.get(b"connection", ())),
        known=known,
        host=known[b"host"][-1] if b"host" in known else b"",
        keep_alive=True,
    )


def path_of(scope: Scope) -> str:
    """The decoded path below the one that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


class AsgiClient:
    """See `Client`. One request; `serve` returns when it has been answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        self.peer = str(peer[0]) if peer else ""
        self.scheme = str(scope.get("scheme", "http"))
        self._receive = receive
        self._send = send
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._over = False
        self._news = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()

    @property
    def write_paused(self) -> bool:
        """See `Client.write_paused`."""
        return self._queued_bytes > HIGH_WATER_BYTES

    @property
    def chunks(self) -> None:
        """See `Client.chunks`: the server makes the frames."""

    async def serve(self, handler: Handler, tasks: Tasks) -> None:
        """Let `handler` answer. Ends early when the client leaves."""
        reading = tasks.spawn(self._read(handler), name="read")
        reading.add_done_callback(lambda _: self._news.set())
        try:
            await self._write(handler, reading)
        finally:
            reading.cancel()
            if not self._over:
                self._over = True
                handler.client_left()

    async def _read(self, handler: Handler) -> None:
        begun = False
        while True:
            await self._may_read.wait()
            message = await self._receive()
            if self._over:
                return
            if message["type"] == "http.disconnect":
                return
            data, complete = bytes(message.get("body", b"")), not message.get("more_body", False)
            if not begun:
                begun = True
                handler.begin(data, complete=complete)
            elif data or complete:
                handler.client_data(data, complete=complete)

    async def _write(self, handler: Handler, reading: "asyncio.Task[Any]") -> None:
        while True:
            while self._queue:
                message = self._queue.popleft()
                await self._send(message)
                was_paused = self.write_paused
                self._queued_bytes -= len(message.get("body", b""))
                if was_paused and not self.write_paused and not self._over:
                    handler.client_writable()
            if self._over or reading.done():
                return
            self._news.clear()
            await self._news.wait()

    def _put(self, message: Message) -> None:
        self._queue.append(message)
        self._queued_bytes += len(message.get("body", b""))
        self._news.set()

    # ── Client ─────────────────────────────────────────────────────────────────────────────────

    def interim(self, status: int, lines: bytes) -> None:
        """ASGI has no message for it, and a server has sent its own 100 when we asked for the body."""

    def respond(
        self,
        status: int,
        lines: bytes,
        *,
        length: int | None,
        has_body: bool = True,
        data: bytes = b"",
        last: bool = False,
    ) -> None:
        """See `Client.respond`."""
        self._put({"type": "http.response.start", "status": status, "headers": headers_of(lines)})
        if last:
            self.finish(data)
        elif data:
            self.send(data)

    def send(self, data: bytes) -> None:
        """See `Client.send`."""
        self._put({"type": "http.response.body", "body": data, "more_body": True})

    def finish(self, data: bytes = b"", trailers: Sequence[Header] = ()) -> None:
        """See `Client.finish`. Trailers are an extension of ASGI's that hardly a server has."""
        self._over = True
        self._put({"type": "http.response.body", "body": data, "more_body": False})

    def break_off(self, data: bytes = b"") -> None:
        """See `Client.break_off`: a server closes the connection of an answer that is not ended."""
        self._over = True
        if data:
            self._put({"type": "http.response.body", "body": data, "more_body": True})
        self._news.set()

    def pause_reading(self) -> None:
        """See `Client.pause_reading`."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """See `Client.resume_reading`."""
        self._may_read.set()

    def switch(self, lines: bytes) -> None:
        """Never called: no request from here offers another protocol."""
        raise NotImplementedError("ASGI requests do not offer another protocol")
