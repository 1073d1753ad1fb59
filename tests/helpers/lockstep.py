"""Many connections to one proxy, all at the same byte.

A byte that was written to a socket has not been read yet, and two writes may arrive as one. What makes a split
certain is the order of a single-threaded server: when it answers a request that was sent later, on a connection of
its own, it has read what came before on all the others (`Lockstep.settle`). It accepts connections in their order,
too, so when a later one is served the earlier ones are known (`Lockstep.welcome`).
"""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

_BEAT = b"GET /livez HTTP/1.1\r\nHost: lockstep\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

#: Answers for one step: data that is read in a turn may be worked on in the next.
_ROUNDS = 3


class Connection:
    """A client's socket that never waits. `data` is what has come; `ended` when nothing more will, `reset` when the
    end was a reset (RST) and not a close (FIN)."""

    def __init__(self, port: int) -> None:
        # The kernel completes the handshake by itself, so this does not wait for the proxy either.
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Thousands of connections in TIME_WAIT would use up this machine's ports.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._unsent = b""
        self._finish = False
        self.data = b""
        self.ended = False
        self.reset = False

    def send(self, data: bytes) -> None:
        """Send now what the kernel takes, the rest with the next `pump`."""
        self._unsent += data
        self._flush()

    def finish(self) -> None:
        """Nothing more will be sent (FIN)."""
        self._finish = True
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if self._finish:
                self._finish = False
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""  # the other side has closed; what it sent before can still be read

    def pump(self) -> None:
        """Take what has come."""
        self._flush()
        try:
            while not self.ended:
                data = self._socket.recv(1 << 16)
                self.data += data
                self.ended = not data
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = self.reset = True

    def close(self) -> None:
        self._socket.close()


class Lockstep:
    """A connection of its own to the proxy on `port`, which must answer `GET /livez` by itself."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._socket = self._open()
        await self.settle()
        return self

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port))
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    async def settle(self, rounds: int = _ROUNDS) -> None:
        """Return when the proxy has read everything that was sent to it before, and answered what it can at once."""
        for _ in range(rounds):
            await self._beat(self._socket)

    async def welcome(self) -> None:
        """Return when the proxy has accepted all connections that were opened before, which it may do one a turn."""
        with self._open() as late:
            await self._beat(late)
        await self.settle()

    async def _beat(self, connection: socket.socket) -> None:
        await self._loop.sock_sendall(connection, _BEAT)
        answer = b""
        while not _is_whole(answer):
            data = await self._loop.sock_recv(connection, 1 << 16)
            assert data, f"the proxy closed the connection that keeps the step: {answer!r}"
            answer += data


def _is_whole(answer: bytes) -> bool:
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    return len(body) >= int(fields.get(b"content-length", b"0"))
