"""One loopback port in front of an instance's SSH server.

It stands for the network between the world and the container, so that a test can break the network
and leave the server alone: refuse connections, cut them, or freeze them (TCP stays open, nothing moves).
The port stays the gateway's while it refuses: a bound socket that does not listen reserves it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from vastproxy.simulator.chores import Chores

#: Serves one accepted connection; returns when it has ended.
Serve = Callable[[socket.socket], Awaitable[None]]


class Gateway:
    """Relays connections to `serve`, each over a socket pair. Born refusing; `open` makes it accept."""

    def __init__(self, name: str, serve: Serve) -> None:
        self._name = name
        self._serve = serve
        self._chores = Chores(f"gateway-{name}")
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._legs: set[_Leg] = set()
        self._frozen = False
        #: The port, from the first `open` until `move` or `aclose`.
        self.port = 0

    def __repr__(self) -> str:
        state = "frozen" if self._frozen else "open" if self.accepting else "refusing"
        return f"<Gateway {self._name} port={self.port} {state} connections={self.connections}>"

    @property
    def accepting(self) -> bool:
        return self._server is not None

    @property
    def connections(self) -> int:
        """Connections from outside that are open now."""
        return sum(leg.outer for leg in self._legs)

    async def open(self) -> None:
        """Accept connections, on the port held before if there is one."""
        if self._server is not None:
            return
        if self._reserved is None:
            self._reserved = _bind(0)
            self.port = self._reserved.getsockname()[1]
        listener = _bind(self.port)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Leg(self, outer=True), sock=listener)
        except BaseException:
            listener.close()
            raise

    def refuse(self) -> None:
        """Refuse new connections and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """End all connections now, without a goodbye."""
        for leg in list(self._legs):
            leg.abort()

    def move(self) -> None:
        """Give the port up, refusing; the next `open` is on another one."""
        self.refuse()
        old, self._reserved = self._reserved, _bind(0)
        self.port = self._reserved.getsockname()[1]
        if old is not None:
            old.close()  # after the new one is bound: the two differ

    def freeze(self) -> None:
        """Move no byte in either direction. Connections stay open; new ones are accepted, unanswered."""
        self._frozen = True
        for leg in self._legs:
            leg.hold("frozen")

    def thaw(self) -> None:
        self._frozen = False
        for leg in list(self._legs):
            leg.release("frozen")

    async def aclose(self) -> None:
        """Refuse for good and give the port back. May be called twice."""
        self.refuse()
        await self._chores.aclose()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    # Called by the legs

    def accepted(self, leg: "_Leg") -> None:
        self._legs.add(leg)
        if self._frozen:
            leg.hold("frozen")
        if leg.outer:
            leg.hold("joining")
            self._chores.spawn(self._join(leg), name="join")

    def lost(self, leg: "_Leg") -> None:
        self._legs.discard(leg)

    async def _join(self, outer: "_Leg") -> None:
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        theirs.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            _, inner = await loop.create_connection(lambda: _Leg(self, outer=False), sock=mine)
        except BaseException:
            mine.close()
            theirs.close()
            raise
        outer.join(inner)
        try:
            await self._serve(theirs)
        finally:
            inner.finish()


class _Leg(asyncio.Protocol):
    """One half of a relayed connection."""

    def __init__(self, gateway: Gateway, *, outer: bool) -> None:
        self.outer = outer
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._peer: _Leg | None = None
        self._holds: set[str] = set()
        self._pending = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._gateway.accepted(self)

    def join(self, peer: "_Leg") -> None:
        """Relay to and from `peer` from now on."""
        self._peer, peer._peer = peer, self
        if self._transport is None or self._transport.is_closing():
            peer.abort()
        self.release("joining")

    def hold(self, reason: str) -> None:
        """Read no more until every reason is released."""
        if not self._holds and self._transport is not None:
            self._transport.pause_reading()
        self._holds.add(reason)

    def release(self, reason: str) -> None:
        if reason in self._holds:
            self._holds.discard(reason)
            if not self._holds and self._transport is not None and not self._transport.is_closing():
                self._pass_on(bytes(self._pending))
                self._pending.clear()
                self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._holds and self._transport is not None:
            # uvloop begins to read after connection_made although reading was paused in it.
            self._pending += data
            self._transport.pause_reading()
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if data and self._peer is not None and self._peer._transport is not None:
            self._peer._transport.write(data)

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._peer.hold("full")

    def resume_writing(self) -> None:
        if self._peer is not None:
            self._peer.release("full")

    def finish(self) -> None:
        """Close when everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now; what was not written is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gateway.lost(self)
        peer, self._peer = self._peer, None
        if peer is not None:
            peer._peer = None
            peer.finish()


def _bind(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        undo.pop_all()
    return sock
