"""One instance before the real proxy on the real server, with an engine that follows a script byte by byte.

async with Stage(always(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")) as stage, Talk(stage.port) as talk:
    talk.write(b"GET /x HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
    assert (await talk.answer()).status == 204
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import uvicorn
from starlette.applications import Starlette

from tests.helpers.prompt import PromptEngine, PromptServer, listen
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Handler, ScriptedServer
from tests.helpers.wire import Message, MessageReader
from vastproxy.api.app import create_app
from vastproxy.cli.serve import server_config
from vastproxy.services.snapshot import BackendSnapshot
from vastproxy.settings.model import FleetSettings, ServerSettings, UpstreamSettings

#: No probes after the first: what reaches the engine is the tests' own.
QUIET = FleetSettings(label="none", probe_interval_s=3600)
_READ_BYTES = 1 << 16


async def until(condition: Callable[[], object], *, limit_s: float = 15.0) -> None:
    """Bounded wait for something that another peer brings about and does not announce."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.001)


# ── the engine's side ──────────────────────────────────────────────────────────────────────────


async def next_request(reader: asyncio.StreamReader) -> Message:
    """One whole request, read as strictly as RFC 9112 can be. Raises IncompleteReadError at the end."""
    message_reader = MessageReader()
    while True:
        data = await reader.read(_READ_BYTES)
        if not data:
            raise asyncio.IncompleteReadError(message_reader.unfinished, None)
        if messages := message_reader.feed(data):
            assert len(messages) == 1, "the proxy sends one request at a time"
            assert not message_reader.unfinished
            return messages[0]


async def next_head(reader: asyncio.StreamReader) -> bytes:
    """The head of a request, in lower case, and nothing of its body."""
    return (await reader.readuntil(b"\r\n\r\n")).lower()


def always(*answers: bytes, seen: list[Message] | None = None) -> Handler:
    """Answers the requests of a connection with these in turn, the last one again and again."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while True:
            message = await next_request(reader)
            if seen is not None:
                seen.append(message)
            writer.write(answers[min(number, len(answers) - 1)])
            await writer.drain()
            number += 1

    return handler


def ok(body: bytes = b"ok", *headers: bytes) -> bytes:
    """A plain answer."""
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), body)


class Script(ScriptedServer):
    """The engine. `open_connections` counts those whose script still runs."""

    def __init__(self, script: Handler) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(reader, writer)
            except (
                RuntimeError
            ):  # so uvloop's transport refuses what is written after its end; asyncio's does not
                if not writer.is_closing():
                    raise

        super().__init__(handler)

    @property
    def open_connections(self) -> int:
        return len(self._tasks)


class Stage(Proxying):
    """See the module's docstring. `kind` is that of the engine, `host` where the proxy listens."""

    def __init__(
        self,
        script: Handler,
        *,
        upstream: UpstreamSettings | None = None,
        server: ServerSettings | None = None,
        kind: str = "vllm",
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__([PromptEngine(kind)], upstream=upstream, server=server, fleet=QUIET)
        self.script = Script(script)
        self._host = host

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app = create_app(self.settings, fleet=self.fleet)
        async with self.script, PromptServer(self._config(app), listen(self._host)) as server:
            self._server = server
            self.port = server.port
            yield

    def _config(self, app: Starlette) -> uvicorn.Config:
        """How the proxy is served."""
        return server_config(app, self.settings.server)

    async def wait_for_healthy(self, count: int, *, limit_s: float = 10.0) -> None:
        """As in `Proxying`; then the script takes the place of the engine that was recognised."""
        await super().wait_for_healthy(count, limit_s=limit_s)
        self.lead_to(self.script.port)

    def lead_to(self, port: int) -> None:
        """Another engine takes the script's place."""
        self.tunnels.ports[(1, 18000)] = port

    @property
    def accepted(self) -> int:
        """Connections that the proxy has made to the script."""
        return self.script.connections

    def shut_down_connections(self) -> None:
        """What uvicorn says to each connection when the server is to stop."""
        for connection in list(self._server.server_state.connections):
            connection.shutdown()

    @property
    def client_connections(self) -> int:
        """Connections of clients that the proxy has."""
        return len(self._server.server_state.connections)

    @property
    def backend(self) -> BackendSnapshot:
        return self.fleet.snapshot().backends[0]

    async def idle(self, *, failures: int = 0) -> None:
        """Every lease is given back; so many attempts count as failures of the engine."""
        await until(lambda: self.backend.in_flight == 0)
        assert self.backend.failures == failures
