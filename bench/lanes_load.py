"""What is put on a line, and what is seen of it: clients that download, and how many connections there are."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bench.answers import CHAT, chat_request
from bench.contenders.base import CLIENT_KEY

_LOOK_EVERY_S = 0.1
_READ_BYTES = 1 << 18
_ESTABLISHED = "01"


class Downloads:
    """Clients that ask for long answers, each on one connection, one answer after the other."""

    def __init__(self, url: str, clients: int) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "127.0.0.1", address.port or 80)
        body = chat_request()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {CLIENT_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        self._sockets: list[socket.socket] = []
        self._received = [0] * clients
        self._stopping = False
        self.problems: list[str] = []

    @property
    def received(self) -> int:
        """Bytes so far, all clients together."""
        return sum(self._received)

    def __enter__(self) -> Self:
        for _ in self._threads:
            self._sockets.append(socket.create_connection(self._address, timeout=60))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _run(self, number: int) -> None:
        try:
            while not self._stopping:
                self._download(number)
        except (OSError, ValueError) as error:
            if not self._stopping:
                self.problems.append(f"{type(error).__name__}: {error}")

    def _download(self, number: int) -> None:
        sock = self._sockets[number]
        sock.sendall(self._request)
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := sock.recv(_READ_BYTES)):
                raise OSError("closed before the answer")
            head += data
        lines, _, begun = head.partition(b"\r\n\r\n")
        left = answer_bytes(lines) - len(begun)
        self._received[number] += len(begun)
        while left > 0:
            if not (data := sock.recv(min(left, _READ_BYTES))):
                raise OSError("closed within the answer")
            left -= len(data)
            self._received[number] += len(data)


def answer_bytes(head: bytes) -> int:
    """How long the answer with this head is. Raises ValueError when it is not a good one."""
    status, *lines = head.split(b"\r\n")
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and status.split(b" ")[1:2] == [b"200"]:
            return int(value)
    raise ValueError(f"answered {status.decode('latin-1')}")


def established(table: str, port: int) -> int:
    """Connections to a local IPv4 port, from the text of /proc/net/tcp."""
    rows = (line.split() for line in table.splitlines()[1:])
    return sum(
        len(row) > 3 and row[3] == _ESTABLISHED and row[1].rpartition(":")[2] == f"{port:04X}" for row in rows
    )


class Watch:
    """Looks again and again how many connections there are to a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: list[tuple[float, int]] = []
        """(time, connections), in order."""

    @property
    def now(self) -> int:
        """Connections at this moment."""
        return established(Path("/proc/net/tcp").read_text(), self._port)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self.seen.append((time.monotonic(), self.now))


def changes(seen: Sequence[tuple[float, int]], began: float) -> list[tuple[float, int]]:
    """When the number was another than before, in seconds from `began`, and which; the first one counts as known."""
    found: list[tuple[float, int]] = []
    before = seen[0][1] if seen else 0
    for at, count in seen:
        if count != before:
            found.append((round(at - began, 1), count))
            before = count
    return found
