"""uvicorn's server for tests: all of it but the main loop, which looks only ten times a second whether to end."""

import asyncio
import socket
from types import TracebackType
from typing import Any, Self

import uvicorn

from tests.helpers.engines import FakeEngine

_LIMIT_S = 20.0


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; `host` may be an IPv6 address."""
    listener = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    return listener


class PromptServer(uvicorn.Server):
    """Serves from the beginning of the block to its end, which ends every connection at once."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    async def __aenter__(self) -> Self:
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self._listener])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.close()
        self._listener.close()
        self.abort_connections()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(_LIMIT_S):
            while self.server_state.connections:
                await asyncio.sleep(0.001)
            for server in self.servers:
                await server.wait_closed()
            await self.lifespan.shutdown()

    def abort_connections(self) -> None:
        """Every client loses its connection."""
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


class PromptEngine(FakeEngine):
    """A `FakeEngine` that starts and stops at once."""

    _prompt: PromptServer | None = None

    async def start(self) -> None:
        config = uvicorn.Config(self, ws="none", lifespan="off", log_config=None, access_log=False)
        self._prompt = PromptServer(config, listen(port=self.port))
        self.port = self._prompt.port
        await self._prompt.__aenter__()

    async def stop(self) -> None:
        server, self._prompt = self._prompt, None
        if server is not None:
            await server.__aexit__(None, None, None)
