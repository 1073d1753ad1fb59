"""An engine that writes down what it gets, and answers as it is told, byte by byte if need be."""

import asyncio
import re
from types import TracebackType
from typing import Self, cast

from tests.helpers.wire import Message, MessageReader, NotStrict, as_h11_reads, shown

#: A request for this target is answered with this body: who gets it knows that his connection is in order.
SENTINEL_TARGET = "/sentinel"
SENTINEL = b"SENTINEL"

#: Requests for targets below this are not answered but held, for whoever wants to answer them by hand.
HELD = "/held/"

_UNIQUE = re.compile(rb"(?i)(x-request-id): [^\r\n]*")


class EngineConnection(asyncio.Protocol):
    """One connection from a proxy."""

    def __init__(self, engine: "RecordingEngine") -> None:
        self._engine = engine
        self._reader = MessageReader()
        self._invited = False
        self.transport: asyncio.Transport | None = None
        self.ended = False
        """Has the proxy, or the engine, closed it?"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._engine.connections.add(self)
        self._engine.accepted += 1

    def data_received(self, data: bytes) -> None:
        known = len(self._reader.raw)
        try:
            messages = self._reader.feed(data)
            for message, raw in zip(messages, self._reader.raw[known:], strict=True):
                self._invited = False
                _require_agreement(message, raw)
                self._engine.take(self, message)
        except NotStrict as error:
            self._engine.violations.append(str(error))
            self.close()
            return
        self._invite()

    def _invite(self) -> None:
        """Answer an expectation once, as engines do when they begin to read the body."""
        head, blank, _ = self._reader.unfinished.partition(b"\r\n\r\n")
        if blank and not self._invited and b"100-continue" in head.lower():
            self._invited = True
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._engine.connections.discard(self)
        if self._reader.unfinished:
            self._engine.unfinished.append(self._reader.unfinished)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


def _require_agreement(message: Message, raw: bytes) -> None:
    """The second oracle reads the same message in the same bytes, all of them."""
    method, target, body, rest = as_h11_reads(_UNIQUE.sub(rb"\1: u", raw))
    if (method, target, body, rest) != (message.method, message.target, message.body, b""):
        raise NotStrict(f"h11 reads {method} {target} {shown(body)} and then {shown(rest)} in {shown(raw)}")


class RecordingEngine:
    """Listens on 127.0.0.1. Every whole request is kept in `seen` and answered with what it was."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted = 0
        self.connections: set[EngineConnection] = set()
        self.seen: list[Message] = []
        self.unfinished: list[bytes] = []
        """Beginnings of requests whose connection ended."""
        self.violations: list[str] = []
        """What the proxy sent that is no message beyond doubt."""
        self.held: dict[str, EngineConnection] = {}
        """By target: who waits for an answer by hand."""

    def take(self, connection: EngineConnection, message: Message) -> None:
        if message.target.startswith(HELD):
            self.held[message.target] = connection
            return
        if message.target != SENTINEL_TARGET or message.body:
            self.seen.append(message)
        connection.write(answer_to(message))

    def forget(self) -> None:
        """Begin anew with what is seen from now on."""
        self.seen, self.unfinished, self.violations, self.held = [], [], [], {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: EngineConnection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in list(self.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self._server.wait_closed()
        while self.connections:
            await asyncio.sleep(0)


def answer_to(message: Message) -> bytes:
    """200, and a body that says what was asked."""
    if message.target == SENTINEL_TARGET and not message.body:
        body = SENTINEL
    else:
        body = f"{message.method} {message.target} {len(message.body)}".encode("latin-1")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head if message.method == "HEAD" else head + body
