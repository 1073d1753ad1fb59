"""Carries one stream between a local socket and a channel of paramiko, each half for itself.

sshtunnel's own loop ends both halves when one of them ends, and stands still when both sides send more than
the other one reads. So each direction has a thread here: the one that the listener made carries what comes
from inside the instance, a second one what goes there.
"""

import contextlib
import socket
import struct
import threading
from typing import Protocol

from vastproxy.services.tunnels.forwarded import Caller
from vastproxy.services.tunnels.paramiko_transport import ENDED

#: What a thread takes in one go.
CHUNK_BYTES = 64 * 1024
#: Kept by the kernel for a reader that has stopped, on each of the two sockets; Linux doubles it.
SOCKET_BUFFER_BYTES = 64 * 1024


class Channel(Protocol):
    """The part of paramiko.Channel that is used here."""

    eof_received: bool
    status_event: threading.Event

    def recv(self, nbytes: int) -> bytes: ...
    def sendall(self, s: bytes) -> None: ...
    def shutdown_write(self) -> None: ...
    def close(self) -> None: ...


class Connection(Protocol):
    """The part of SshTransport that is used here."""

    def is_active(self) -> bool: ...
    def has_ended(self) -> bool: ...


def tune(sock: socket.socket) -> None:
    """Send small pieces at once, and keep little of what nobody reads."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)


class Relay:
    """One stream under way. `carry` returns when both its halves have ended and nothing is held."""

    def __init__(self, local: socket.socket, chan: Channel, caller: Caller, transport: Connection) -> None:
        self._local = local
        self._chan = chan
        self._caller = caller
        self._transport = transport

    def carry(self) -> None:
        """Carry both ways until the end. Blocking; raises nothing that an end of either side brings."""
        outward = threading.Thread(target=self._carry_outward, name="ssh stream out", daemon=True)
        try:
            outward.start()
        except RuntimeError:  # no more threads; a clean end would be a lie
            self._caller.is_lost = True
            self._chan.close()
            return
        self._carry_inward()
        if self._caller.is_lost:
            self._break_off()
        outward.join()
        if self._caller.is_lost:  # a reset, so that nobody takes it for a clean end
            self._local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._local.close()

    def _carry_inward(self) -> None:
        """From the instance to us, then wait for the end of the channel."""
        if self._pump_inward() and not self._is_lost():
            with contextlib.suppress(OSError):
                self._local.shutdown(socket.SHUT_WR)
        self._chan.status_event.wait()
        if not self._is_lost():
            self._caller.tell_done()

    def _pump_inward(self) -> bool:
        """Whether the other side has ended it; False when our end has gone, and the outward half closes the channel."""
        while True:
            try:
                data = self._chan.recv(4 * CHUNK_BYTES)
            except ENDED:
                self._cut()
                return True
            if not data:
                return True
            try:
                self._local.sendall(data)
            except OSError:
                return False

    def _carry_outward(self) -> None:
        """From us to the instance. What comes after the other side has closed is read and dropped.

        Dropping it keeps the kernel from answering with a reset, which would destroy what our end has not read yet.
        """
        with contextlib.suppress(OSError):  # our end has gone
            self._pump_outward()
            while self._local.recv(CHUNK_BYTES):
                pass
        self._caller.closed.wait()
        with contextlib.suppress(*ENDED):
            self._chan.close()

    def _pump_outward(self) -> None:
        while data := self._local.recv(CHUNK_BYTES):
            try:
                self._chan.sendall(data)
            except ENDED:
                if not self._chan.status_event.is_set():
                    self._cut()
                return
        with contextlib.suppress(*ENDED):
            self._chan.shutdown_write()

    def _cut(self) -> None:
        """The channel failed in the middle: nobody may take what got through for all there was."""
        self._caller.is_lost = True
        with contextlib.suppress(*ENDED):
            self._chan.close()

    def _is_lost(self) -> bool:
        """Whether the channel ended because its connection did."""
        is_clean = self._chan.eof_received and self._transport.is_active()
        # When our end is closed already, we ended it ourselves or know of the loss.
        if not self._caller.is_lost and not is_clean and not self._caller.closed.is_set():
            self._caller.is_lost = self._transport.has_ended()
        return self._caller.is_lost

    def _break_off(self) -> None:
        """Wake the outward half, without telling our end anything yet."""
        self._caller.closed.set()
        with contextlib.suppress(OSError):
            self._local.shutdown(socket.SHUT_RD)
