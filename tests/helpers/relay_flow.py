"""One direction of a relayed connection: what comes in goes out, later, in pieces, spoilt or not at all."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

#: Read at once, and how many such readings are held for later: enough for 150 ms of a fast line.
_READ_BYTES = 32_768
_MOST_HELD = 2_048
#: How long a reading of a slow direction takes.
_SLOW_READ_S = 0.05


class Fate(Enum):
    """What becomes of the bytes of a direction."""

    FORWARD = "forward"
    SILENT = "not read any more, so that the sender's window fills"
    SWALLOW = "read and thrown away, so that the sender believes that they arrive"
    REFUSE = "answered by a reset, as by a host that has rebooted"


@dataclass(slots=True)
class Pace:
    """How every direction of a relay is forwarded at the moment."""

    delay_s: float = 0.0
    piece_bytes: int | None = None
    pause_s: float = 0.0
    """After each piece."""
    running: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set while everything stands still."""


async def for_ever() -> None:
    """Ends by being cancelled."""
    await asyncio.get_running_loop().create_future()


class Flow:
    """See the module's docstring. `count` is told of all bytes that were forwarded."""

    def __init__(self, pace: Pace, count: Callable[[int], None]) -> None:
        self._pace = pace
        self._count = count
        self._fate = Fate.FORWARD
        self.bytes_per_s: float | None = None
        """How fast is read at most; None: as fast as it comes."""
        self._sink: socket.socket | None = None
        self._is_finished = False
        #: Bytes until the direction is to be finished; None: it goes on.
        self._left: int | None = None
        #: The byte that follows this is flipped; and the end of what was forwarded, in which it may begin.
        self._mark: bytes | None = None
        self._tail = b""
        #: (when it is due, the bytes; none at the end)
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_HELD)

    async def run(self, source: socket.socket, sink: socket.socket) -> None:
        """Forward until the source has ended. Raises OSError when a side has broken off."""
        self._sink = sink
        if self._is_finished:
            self._shut(sink)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.read(source))
            group.create_task(self._write(sink))

    async def read(self, source: socket.socket) -> None:
        """Take what comes until its end."""
        loop = asyncio.get_running_loop()
        data = b"unknown"
        while data:
            await self._may_go_on()
            try:
                data = await loop.sock_recv(source, self._most_at_once())
            except OSError:
                if self._fate is not Fate.SWALLOW:
                    raise
                data = b""  # who breaks off in a black hole is not heard outside
            if self._fate is Fate.REFUSE:
                raise ConnectionResetError("the other side knows nothing of this connection")
            if self._fate is Fate.FORWARD or not data:
                await self._held.put((loop.time() + self._pace.delay_s, data))
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(data) / self.bytes_per_s)

    def _most_at_once(self) -> int:
        return _READ_BYTES if self.bytes_per_s is None else max(1, round(self.bytes_per_s * _SLOW_READ_S))

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────────

    def become(self, fate: Fate) -> None:
        """From now on, for good."""
        self._fate = fate

    def finish(self) -> None:
        """Tell the sink that this was the end; what comes later is thrown away."""
        self._is_finished = True
        if self._sink is not None:
            self._shut(self._sink)

    def truncate(self, after_bytes: int) -> None:
        """Finish after so many more bytes."""
        self._left = after_bytes
        if not after_bytes:
            self.finish()

    def garble(self, after: bytes) -> None:
        """Flip a bit of the first byte that follows `after`; of the next byte at all if that is empty."""
        self._mark, self._tail = after, b""

    # ── forwarding ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _forwards(self) -> bool:
        return self._fate is Fate.FORWARD and not self._is_finished

    async def _may_go_on(self) -> None:
        await self._pace.running.wait()
        if self._fate is Fate.SILENT:
            await for_ever()

    async def _write(self, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        data = b"unknown"
        while data:
            due, data = await self._held.get()
            if (early_s := due - loop.time()) > 0:
                await asyncio.sleep(early_s)
            if data:
                await self._send(sink, self._spoil(data))
        await self._may_go_on()
        if self._forwards:
            self._shut(sink)

    async def _send(self, sink: socket.socket, data: bytes) -> None:
        """Each piece in one write of its own."""
        loop = asyncio.get_running_loop()
        at = 0
        while at < len(data):
            await self._may_go_on()
            if not self._forwards:
                return
            most = min(self._pace.piece_bytes or len(data), len(data) if self._left is None else self._left)
            piece = data[at : at + most]
            try:
                await loop.sock_sendall(sink, piece)
            except OSError:
                if self._forwards:
                    raise
                return
            at += len(piece)
            self._count(len(piece))
            if self._left is not None:
                self.truncate(self._left - len(piece))
            if self._pace.piece_bytes:  # a reader in this loop is to see each piece: it reads a turn later
                await asyncio.sleep(self._pace.pause_s)
                await asyncio.sleep(0)

    def _spoil(self, data: bytes) -> bytes:
        """The data with the flipped byte, if it is in there."""
        mark = self._mark
        if mark is None:
            return data
        seen = self._tail + data
        found = seen.find(mark)
        at = found + len(mark) - len(self._tail)
        if found < 0 or at >= len(data):
            self._tail = seen[-len(mark) :]
            return data
        self._mark, self._tail = None, b""
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def _shut(self, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone
            sink.shutdown(socket.SHUT_WR)
