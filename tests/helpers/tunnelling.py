"""Tunnels to a real sshd, the protocols that tests drive them with, and the peers behind them."""

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path as FilePath
from typing import Any

from tests.helpers.ports import closed_port
from tests.helpers.sshd import Sshd
from vastproxy.services.tunnels.asyncssh_engine import WINDOW_BYTES, AsyncsshEngine
from vastproxy.services.tunnels.base import Path, SshAddress, Stream, TunnelTarget
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.services.tunnels.tunnel import AsyncsshTunnel
from vastproxy.settings.model import TunnelSettings

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Recorder(asyncio.Protocol):
    """The caller's end of a stream: keeps what happens and lets tests wait for it."""

    def __init__(self, *, keep_open: bool = True) -> None:
        self.keep_open = keep_open
        self.received = 0
        self.digest = hashlib.sha256()
        self.tail = b""
        self.events: list[str] = []
        self.lost_with: Exception | None = None
        self.stream: Stream
        self.eof = asyncio.Event()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._changed = asyncio.Event()

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        self.stream = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.digest.update(data)
        self.tail = (self.tail + data)[-64:]
        self._changed.set()

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.eof.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost_with = exc
        self.lost.set()
        self._changed.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def has_received(self, count: int) -> None:
        while self.received < count:
            assert not self.lost.is_set(), f"ended after {self.received} of {count} bytes: {self.lost_with!r}"
            self._changed.clear()
            await self._changed.wait()


class Peer:
    """A TCP server that an instance's engine would be: each connection is handed to `handler`.

    It accepts by itself: asyncio's server forgets a connection that it is about to accept when it is closed.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.open_now = 0
        self.all_closed = asyncio.Event()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator["Peer"]:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            loop.add_reader(listener, self._accept_all, listener, handler)
            try:
                yield self
            finally:
                loop.remove_reader(listener)
                listener.close()
                if self.open_now:
                    async with asyncio.timeout(10):
                        await self.all_closed.wait()

    def _accept_all(self, listener: socket.socket, handler: Handler) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                sock = listener.accept()[0]
                sock.setblocking(False)
                self.connections += 1
                self.open_now += 1
                self.all_closed.clear()
                task = asyncio.get_running_loop().create_task(self._talk(sock, handler), name="peer")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _talk(self, sock: socket.socket, handler: Handler) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                with contextlib.suppress(ConnectionError):
                    await handler(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
        finally:
            self.open_now -= 1
            if not self.open_now:
                self.all_closed.set()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the other side has ended its half."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await reader.read()


def keys_of(path: FilePath) -> ClientKeys:
    return load_client_keys(TunnelSettings(key_path=str(path)), home=None)


def engine_for(
    sshd: Sshd,
    *,
    pins: HostKeyPins | None = None,
    fast: bool | None = None,
    known: bool | None = None,
    window_bytes: int = WINDOW_BYTES,
    **overrides: Any,
) -> AsyncsshEngine:
    return AsyncsshEngine(
        TunnelSettings.model_validate(overrides),
        keys=keys_of(sshd.client_key_path),
        host_keys=PinnedHostKeys(pins or HostKeyPins(None)),
        username=sshd.username,
        fast=fast,
        known=known,
        window_bytes=window_bytes,
    )


def target_for(*addresses: SshAddress, instance_id: int = 7) -> TunnelTarget:
    return TunnelTarget(instance_id, f"{instance_id}@1700000000", addresses)


def direct(port: int) -> SshAddress:
    return SshAddress("127.0.0.1", port, Path.DIRECT)


def relay(port: int) -> SshAddress:
    return SshAddress("127.0.0.1", port, Path.RELAY)


@contextlib.asynccontextmanager
async def connected(
    sshd: Sshd,
    *,
    fast: bool | None = None,
    port: int | None = None,
    window_bytes: int = WINDOW_BYTES,
    **overrides: Any,
) -> AsyncIterator[AsyncsshTunnel]:
    """A tunnel to `sshd`, or to `port`, which leads there."""
    engine = engine_for(sshd, fast=fast, window_bytes=window_bytes, **overrides)
    address = direct(port or sshd.port)
    tunnel = await engine.connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()


async def unused_port() -> int:
    """Nobody listens on it, and nobody begins to."""
    return closed_port()
