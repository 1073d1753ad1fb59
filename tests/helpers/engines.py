"""Stand-in engines that listen: in this process (`FakeEngine`) or in one of their own (`EngineProcess`).

    async with FakeEngine("sglang", models=("m",)) as engine:
        ... engine.port, engine.requests, engine.loading(), engine.die_after_tokens = 3 ...

`python -m tests.helpers.engines --kind vllm --port-file FILE` serves until SIGTERM, for tests that kill or
freeze the engine; `EngineProcess` runs it.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from tests.helpers.engine_app import EngineApp, RecordedRequest

__all__ = ["EngineApp", "EngineProcess", "FakeEngine", "RecordedRequest"]

_ROOT = Path(__file__).parent.parent.parent


class _Server(uvicorn.Server):
    """Leaves the signals of the test run alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listen(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _config(app: EngineApp) -> uvicorn.Config:
    # Engines on uvicorn keep idle connections for 5 s, its default; so does this one.
    return uvicorn.Config(app, loop="none", lifespan="off", log_config=None, access_log=False)


class FakeEngine(EngineApp):
    """An engine on 127.0.0.1, served by uvicorn in the running loop. `stop` and `start` keep the port."""

    def __init__(self, kind: str = "sglang", **options: Any) -> None:
        super().__init__(kind, **options)
        self.port = 0
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        listener = _listen(self.port)
        self.port = listener.getsockname()[1]
        self._server = _Server(_config(self))
        self._serving = asyncio.get_running_loop().create_task(
            self._serve(self._server, listener), name=f"engine/{self.kind}:{self.port}"
        )
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0)

    @staticmethod
    async def _serve(server: _Server, listener: socket.socket) -> None:
        with listener:
            await server.serve(sockets=[listener])

    async def stop(self) -> None:
        """Close the port and every connection, in the middle of whatever they carry."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = self._server.force_exit = True
        for connection in list(self._server.server_state.connections):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
        await self._serving
        for task in list(self._server.server_state.tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._server = self._serving = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class EngineProcess:
    """An engine in a process of its own, for what only the operating system can do to it."""

    def __init__(
        self, kind: str = "sglang", *, models: Sequence[str] = ("m",), tokens_per_s: float = 200.0
    ) -> None:
        self._options = ["--kind", kind, "--models", ",".join(models), "--tokens-per-s", str(tokens_per_s)]
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder:
            port_file = Path(folder) / "port"
            command = [sys.executable, "-m", "tests.helpers.engines", "--port-file", str(port_file)]
            self._process = subprocess.Popen([*command, *self._options], cwd=_ROOT)
            try:
                self.port = self._wait_for_port(port_file)
            except BaseException:
                self.kill()
                raise
        return self

    def _wait_for_port(self, port_file: Path, limit_s: float = 30.0) -> int:
        assert self._process is not None
        deadline = time.monotonic() + limit_s
        while not port_file.exists():
            if self._process.poll() is not None:
                raise RuntimeError(f"the engine ended with {self._process.returncode} before it listened")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the engine did not listen within {limit_s:g} s")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        return int(port_file.read_text())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: connections are reset, nothing is said."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and silent, new ones are accepted by the kernel."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in inference engine on 127.0.0.1.")
    parser.add_argument("--kind", default="sglang")
    parser.add_argument("--models", default="m", help="comma separated")
    parser.add_argument("--tokens-per-s", type=float, default=200.0)
    parser.add_argument("--token")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="the port is written here once it listens")
    options = parser.parse_args()
    asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> None:
    models = tuple(options.models.split(","))
    app = EngineApp(options.kind, models=models, tokens_per_s=options.tokens_per_s, token=options.token)
    with _listen(options.port) as listener:
        listener.listen(2048)
        if options.port_file is not None:
            fresh = options.port_file.with_suffix(".new")
            fresh.write_text(str(listener.getsockname()[1]))
            os.replace(fresh, options.port_file)
        await uvicorn.Server(_config(app)).serve(sockets=[listener])


if __name__ == "__main__":
    main()
