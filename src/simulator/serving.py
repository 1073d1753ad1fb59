"""One ASGI app behind one listener inside the running loop: on loopback TCP, or on a unix socket."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from vastproxy.simulator.chores import Chores

#: Longest time that an ending server waits for its last answers.
GRACE_S = 1


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals, and telling when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets=sockets)
        finally:
            self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AppServer:
    """Serves `app` from `start` to `stop`; may be started again."""

    def __init__(self, app: ASGIApp, *, path: Path | None = None) -> None:
        self._app = app
        self._path = path
        self._server: _Server | None = None
        self._chores: Chores | None = None
        self._task: asyncio.Task[None] | None = None
        #: The loopback port while serving over TCP.
        self.port = 0

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Listen. Returns when connections are accepted."""
        if self.running:
            return
        config = uvicorn.Config(
            self._app,
            uds=str(self._path) if self._path else None,
            http="h11",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = self._server = _Server(config)
        sockets = None
        if self._path is None:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            sockets = [listener]
        chores = self._chores = Chores("app-server")
        task = self._task = chores.spawn(server.serve(sockets), name=str(self._path or self.port))
        await server.listening.wait()
        if task is not None and not server.started:
            await task

    async def stop(self) -> None:
        """Stop listening and end what runs, within about two seconds. May be called twice."""
        server, task, chores = self._server, self._task, self._chores
        self._server = self._task = self._chores = None
        if server is None or task is None or chores is None:
            return
        server.should_exit = True
        try:
            await asyncio.wait({task}, timeout=2 * GRACE_S + 1)
        finally:  # also when whoever stops it is cancelled
            await chores.aclose()
            for listener in server.servers:
                listener.close()
            if self._path is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
