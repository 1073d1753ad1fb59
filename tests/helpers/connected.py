"""One client's connection to our HTTP protocol, with handlers that do as a test says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.client_transport import ClientTransport
from tests.helpers.recording_client import RecordingHandler
from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError
from vastproxy.api.http.protocol import HttpProtocol
from vastproxy.api.http.request import Request
from vastproxy.services.http1.headers import lines_of
from vastproxy.settings.model import ServerSettings


@dataclass
class ServerState:
    """What uvicorn shares between connections."""

    connections: set[Any] = field(default_factory=set)
    total_requests: int = 0


class Connected:
    """`handlers` has one for each request, in order; `on_request` is called with each when it has begun."""

    def __init__(
        self,
        *,
        on_request: Callable[["Connected", RecordingHandler], None] = lambda connected, handler: None,
        transport: ClientTransport | None = None,
        **settings: Any,
    ) -> None:
        self.state = ServerState()
        self.handlers: list[RecordingHandler] = []
        self.refusals: list[ApiError] = []
        self.limits = ServerSettings(**settings)
        self._on_request = on_request
        self.protocol = HttpProtocol(None, self.state, {}, entrance=self, limits=self.limits)
        self.transport = transport or ClientTransport()
        self.transport.connect(self.protocol)

    # Entrance

    def handle(self, request: Request, client: Client) -> RecordingHandler:
        """Every request has a handler that writes down what it hears."""
        assert client is self.protocol
        handler = RecordingHandler(request)
        handler.on_begin = lambda: self._on_request(self, handler)
        handler.on_failed = self._fail
        self.handlers.append(handler)
        return handler

    def refused(self, error: ApiError, client: Client) -> None:
        """Kept in `refusals`."""
        self.refusals.append(error)

    def _fail(self, error: ApiError) -> None:
        body = error.body()
        self.protocol.respond(error.status, error.lines(len(body)), length=len(body), data=body, last=True)

    # what tests say

    @property
    def handler(self) -> RecordingHandler:
        """The last one."""
        return self.handlers[-1]

    @property
    def targets(self) -> list[bytes]:
        """Of the requests that have begun."""
        return [handler.request.target for handler in self.handlers if handler.request is not None]

    def answer(self, body: bytes = b"ok", status: int = 200) -> None:
        """A whole answer of known length."""
        headers = [(b"content-length", b"%d" % len(body))]
        self.protocol.respond(status, lines_of(headers), length=len(body), data=body, last=True)

    def begin_answer(self, data: bytes = b"") -> None:
        """The head of an answer of unknown length."""
        self.protocol.respond(200, b"", length=None, data=data)


def echo(connected: Connected, handler: RecordingHandler) -> None:
    """Answer each request with its target, at once."""
    assert handler.request is not None
    connected.answer(handler.request.target)


def get(target: bytes = b"/x", *lines: bytes, version: bytes = b"1.1") -> bytes:
    """A request without a body."""
    return b"GET %b HTTP/%b\r\n%b\r\n" % (
        target,
        version,
        b"".join(b"%b\r\n" % line for line in (b"Host: h", *lines)),
    )


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """The head of a request with a body, and as much of that as is given."""
    return b"POST /x HTTP/1.1\r\n%b\r\n%b" % (
        b"".join(b"%b\r\n" % line for line in (b"Host: h", *lines)),
        body,
    )


async def settle() -> None:
    """Everything that needs no time has happened."""
    for _ in range(8):
        await asyncio.sleep(0)
