"""A client's end of a connection in memory: the transport of a protocol under test, and what the client does."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any


class RecordingSocket:
    """Knows which options were set."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, bytes]] = []

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.options.append((level, option, value))

    @property
    def resets(self) -> bool:
        """Will its close be a reset?"""
        return any(option == socket.SO_LINGER for _, option, _ in self.options)


class ClientTransport(asyncio.Transport):
    """`written` is what the client was sent. `unsent` bytes of it wait for a client that does not read."""

    def __init__(
        self, *, peername: Any = ("203.0.113.7", 4711), tls: bool = False, half_close: bool = True
    ) -> None:
        self.socket = RecordingSocket()
        super().__init__(
            {"peername": peername, "socket": self.socket, "sslcontext": object() if tls else None}
        )
        self.protocol: asyncio.Protocol | None = None
        self.written = b""
        self.writes: list[bytes] = []
        self.unsent = 0
        self.reading = True
        self.eof_written = False
        self.closed = False
        self.aborted = False
        self.lost = False
        self._half_close = half_close

    # ── what the protocol calls ────────────────────────────────────────────────────────────────

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.lost, "written to a lost transport"
        assert not self.eof_written, "written after the end"
        self.written += bytes(data)
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._half_close

    def write_eof(self) -> None:
        self.eof_written = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert not self.is_closing()
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.is_closing()
        self.reading = True

    def close(self) -> None:
        """What is unsent keeps it open, as in asyncio."""
        if not self.is_closing():
            self.closed = True
            if not self.unsent:
                self._lose_soon()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._lose_soon()

    def _lose_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.lose)

    # ── what the client does ───────────────────────────────────────────────────────────────────

    def connect(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        assert self.protocol is not None
        assert self.reading, "the kernel keeps what is not read"
        if not self.is_closing():
            self.protocol.data_received(data)

    def finish(self) -> None:
        """FIN."""
        assert self.protocol is not None
        if not self.protocol.eof_received():
            self.close()

    def lose(self, error: Exception | None = None) -> None:
        """The connection is over."""
        if not self.lost:
            self.lost = True
            assert self.protocol is not None
            self.protocol.connection_lost(error)

    def stall(self, unsent: int = 100_000) -> None:
        """The client does not read; so much waits in memory."""
        assert self.protocol is not None
        self.unsent = unsent
        self.protocol.pause_writing()

    def take(self) -> None:
        """The client has read everything."""
        assert self.protocol is not None
        self.unsent = 0
        if self.closed:
            self._lose_soon()
        self.protocol.resume_writing()

    def taken(self) -> bytes:
        """What was written since the last call."""
        data, self.written = self.written, b""
        return data
