"""A TCP relay that misbehaves when it is told to: the road between two peers, in the hands of a test.

async with FaultyRelay(sshd.port) as relay:
    tunnel = await engine.connect(target, direct(relay.port))
    relay.freeze()

Every fault is a plain method that takes effect within a turn of the loop, and `heal` undoes them. All but `refuse`
leave the port open. IPv4 only. It runs in the loop of whoever starts it, asyncio's or uvloop's.
"""

import asyncio
import contextlib
import functools
import socket
import struct
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

from tests.helpers.relay_flow import Fate, Flow, Pace, for_ever
from vastproxy.services.tasks import Tasks

_BACKLOG = 512
#: What is asked for from Linux, which gives twice as much and keeps some of it for itself; and a packet's data.
_NARROW_BYTES = 2_048
_PACKET_BYTES = 1_000
#: `close` then sends a reset and keeps nothing.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Side(Enum):
    """Who is meant: the one that connected to the relay, or the one that the relay leads to."""

    CLIENT = "client"
    SERVER = "server"


class RelayedConnection:
    """One client's connection and the one made for it. `toward` are the two directions, by who is reached."""

    def __init__(
        self, client: socket.socket, target: tuple[str, int], pace: Pace, count: Callable[[Side, int], None]
    ) -> None:
        self._sockets = [client]
        self._target = target
        self._pace = pace
        self.toward = {side: Flow(pace, functools.partial(count, side)) for side in Side}
        self.task: asyncio.Task[None] | None = None
        self._drop: Fate | None = None
        self._has_lost = False

    @property
    def is_dropped(self) -> bool:
        """Has it lost something, so that it can never go on?"""
        return self._has_lost or self._drop is not None

    def swallow(self, to: Side) -> None:
        self._has_lost = True
        self.toward[to].become(Fate.SWALLOW)

    def drop(self, fate: Fate) -> None:
        self._drop = fate
        for flow in self.toward.values():
            flow.become(fate)

    def forget(self) -> None:
        """Silence, and a reset for whatever the client sends."""
        self._drop = Fate.REFUSE
        self.toward[Side.CLIENT].become(Fate.SILENT)
        self.toward[Side.SERVER].become(Fate.REFUSE)

    def reset(self) -> None:
        """Break off, with a reset for each side."""
        self._reset_on_close()
        assert self.task is not None
        self.task.cancel()

    async def run(self) -> None:
        """Relay until both sides have ended, or one has broken off."""
        try:
            await self._relay()
        except* OSError:
            self._reset_on_close()

    def close(self) -> None:
        """Close the sockets; `run` has ended, or was ended before it began."""
        for sock in self._sockets:
            sock.close()

    async def _relay(self) -> None:
        client = self._sockets[0]
        if self._drop is Fate.SILENT:
            await for_ever()
        if self._drop is not None:
            await self.toward[Side.SERVER].read(client)
            return
        await self._pace.running.wait()
        server = _new_socket()
        self._sockets.append(server)
        await asyncio.get_running_loop().sock_connect(server, self._target)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.toward[Side.SERVER].run(client, server))
            group.create_task(self.toward[Side.CLIENT].run(server, client))

    def _reset_on_close(self) -> None:
        for sock in self._sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class FaultyRelay:
    """See the module's docstring. It leads to `host:port` and listens on `port`, a free port of loopback.

    Where nobody listens at `host:port`, clients are accepted and reset. Faults are for all connections, those that
    exist and those made later, until `heal`; `reset`, `forget` and `half_close` happen to those that exist.

    With `is_narrow` the relay's kernel takes only a few packets from clients before they are read, as small as those of
    an Ethernet: what a slow relay does not take stands in the client's queue.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, is_narrow: bool = False) -> None:
        self._target = (host, port)
        self._is_narrow = is_narrow
        self._pace = Pace()
        self._pace.running.set()
        self._tasks = Tasks("faulty relay")
        self._open: set[RelayedConnection] = set()
        self._listener: socket.socket | None = None
        #: Keeps the port for us while connections are refused.
        self._place: socket.socket | None = None
        #: What happens to each new connection.
        self._faults: list[Callable[[RelayedConnection], None]] = []
        self._changed = asyncio.Event()
        self.port = 0
        self.connections = 0
        """Accepted so far."""
        self.forwarded = dict.fromkeys(Side, 0)
        """Bytes handed to each side so far."""

    def __repr__(self) -> str:
        to = f"{self._target[0]}:{self._target[1]}"
        return f"<FaultyRelay {self.port} to {to} connections={self.connections} open={self.open_now}>"

    @property
    def open_now(self) -> int:
        """Connections that have not ended."""
        return len(self._open)

    def start(self) -> Self:
        """Listen. Raises OSError."""
        self._place = self._bound(0)
        self.port = int(self._place.getsockname()[1])
        self.accept()
        return self

    async def aclose(self) -> None:
        """End everything. May be called twice."""
        self._stop_listening()
        place, self._place = self._place, None
        if place is not None:
            place.close()
        await self._tasks.aclose()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds; looked at when a connection comes or goes and when bytes were forwarded."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────

    def delay(self, seconds: float) -> None:
        """Everything arrives so much later, in each direction, in order; as much at a time as without a delay."""
        self._pace.delay_s = seconds

    def split(self, size: int, *, pause_s: float = 0.0) -> None:
        """Everything is written in pieces of `size` bytes, each by itself and with a pause after it: with one, a slow
        line."""
        self._pace.piece_bytes, self._pace.pause_s = size, pause_s

    def slow(self, bytes_per_s: float, to: Side) -> None:
        """What goes to that side is read so fast at most, so that its sender feels it; see `is_narrow`."""
        self._for_all(lambda connection: setattr(connection.toward[to], "bytes_per_s", bytes_per_s))

    def freeze(self) -> None:
        """Nothing is read or written any more, and new connections are not answered; nothing is lost. A piece that
        is being read at this moment is kept."""
        self._pace.running.clear()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self._pace.running.set()

    def drop(self, *, swallow: bool = False) -> None:
        """A black hole: no byte arrives any more, no end is heard, new connections are accepted and not answered.

        Nothing is read, so that senders notice when their windows are full; with `swallow` all is read, and they do
        not. What vanished is lost, so `heal` resets these connections.
        """
        fate = Fate.SWALLOW if swallow else Fate.SILENT
        self._for_all(lambda connection: connection.drop(fate))

    def swallow(self, to: Side) -> None:
        """What is sent to that side is taken and never arrives; the other direction goes on. See `drop` for `heal`."""
        self._for_all(lambda connection: connection.swallow(to))

    def truncate(self, after_bytes: int, to: Side = Side.CLIENT) -> None:
        """Each connection's direction to that side ends in good order after so many bytes, counted from now."""
        self._for_all(lambda connection: connection.toward[to].truncate(after_bytes))

    def garble(self, *, after: bytes = b"", to: Side = Side.CLIENT) -> None:
        """In each connection one bit arrives wrong: of the next byte to that side, or of the first after these."""
        self._for_all(lambda connection: connection.toward[to].garble(after))

    def reset(self) -> None:
        """Both sides of every connection get a reset."""
        for connection in tuple(self._open):
            connection.reset()

    def forget(self) -> None:
        """As when the host behind has rebooted: silence, and a reset in answer to what the client sends next."""
        for connection in self._open:
            connection.forget()

    def half_close(self, to: Side = Side.CLIENT) -> None:
        """That side of every connection hears the end of the other; it may go on sending."""
        for connection in self._open:
            connection.toward[to].finish()

    def refuse(self) -> None:
        """Nobody listens any more; connections that exist go on."""
        if self._listener is not None:
            self._stop_listening()
            self._place = self._bound(self.port)

    def accept(self) -> None:
        """Listen again, on the same port."""
        if self._place is not None:
            self._listener, self._place = self._place, None
            self._listener.listen(_BACKLOG)
            asyncio.get_running_loop().add_reader(self._listener, self._accept_all)

    def heal(self) -> None:
        """Be a good relay from now on. Connections that have lost something are reset."""
        self._faults.clear()
        self._pace.delay_s, self._pace.pause_s, self._pace.piece_bytes = 0.0, 0.0, None
        self.thaw()
        self.accept()
        for connection in tuple(self._open):
            for flow in connection.toward.values():
                flow.bytes_per_s = None
            if connection.is_dropped:
                connection.reset()

    # ── relaying ───────────────────────────────────────────────────────────────────────────────────

    def _for_all(self, fault: Callable[[RelayedConnection], None]) -> None:
        self._faults.append(fault)
        for connection in self._open:
            fault(connection)

    def _bound(self, port: int) -> socket.socket:
        place = _bound(port)
        if self._is_narrow:  # connections inherit both
            place.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW_BYTES)
            place.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _PACKET_BYTES)
        return place

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _accept_all(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while self._listener is not None:
                self._begin(_prepared(self._listener.accept()[0]))

    def _begin(self, client: socket.socket) -> None:
        connection = RelayedConnection(client, self._target, self._pace, self._count)
        self.connections += 1
        for fault in self._faults:
            fault(connection)
        self._open.add(connection)
        connection.task = self._tasks.spawn(connection.run(), name=f"connection {self.connections}")
        connection.task.add_done_callback(lambda _: self._ended(connection))
        self._changed.set()

    def _ended(self, connection: RelayedConnection) -> None:
        self._open.discard(connection)
        connection.close()
        self._changed.set()

    def _count(self, to: Side, size: int) -> None:
        self.forwarded[to] += size
        self._changed.set()


def _prepared(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _new_socket() -> socket.socket:
    return _prepared(socket.socket(socket.AF_INET, socket.SOCK_STREAM))


def _bound(port: int) -> socket.socket:
    """A socket that has the port and does not listen."""
    sock = _new_socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
