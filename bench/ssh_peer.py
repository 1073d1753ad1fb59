"""What stands behind sshd in the micro-benchmark: a TCP server that does what each connection's first line says.

`push SIZE INTERVAL` sends a chunk of SIZE bytes each INTERVAL seconds, its first 8 bytes being the clock in ns;
`blob SIZE` sends so many bytes; `sink` drops what comes; `reply SIZE ANSWER` answers each SIZE bytes with ANSWER
bytes. Run as `python -m bench.ssh_peer`; it prints its port.
"""

import asyncio
import random
import sys
import time
from typing import cast

import uvloop

_BLOCK = bytes(range(256)) * 256


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._head = b""
        self._unanswered = 0
        self._work: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._work:
            self._head += data
            line, newline, data = self._head.partition(b"\n")
            if not newline:
                return
            self._work = line.decode().split()
            self._begin()
        if data and self._work[0] == "reply":
            self._unanswered += len(data)
            while self._unanswered >= int(self._work[1]):
                self._unanswered -= int(self._work[1])
                self._transport.write(_BLOCK[: int(self._work[2])])

    def resume_writing(self) -> None:
        while self._left and self._transport.get_write_buffer_size() < 1 << 20:
            part = min(self._left, len(_BLOCK))
            self._left -= part
            self._transport.write(_BLOCK[:part])

    def _begin(self) -> None:
        if self._work[0] == "push":
            loop = asyncio.get_running_loop()
            interval_s = float(self._work[2])
            self._timer = loop.call_later(
                random.random() * interval_s, self._push, int(self._work[1]), interval_s
            )
        elif self._work[0] == "blob":
            self._left = int(self._work[1])
            self.resume_writing()

    def _push(self, size: int, interval_s: float) -> None:
        self._transport.write(time.monotonic_ns().to_bytes(8, "big") + _BLOCK[: size - 8])
        self._timer = asyncio.get_running_loop().call_later(interval_s, self._push, size, interval_s)


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
