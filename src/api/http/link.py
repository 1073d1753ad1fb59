"""One client's TCP connection, below HTTP: writing to who may not read, and ending without losing an answer."""

import asyncio
import socket
import struct
from typing import Any, cast

from vastproxy.api.http.departures import Departures
from vastproxy.services.deadline import Deadline

#: How long a closing connection waits for the client's end, in all and without a byte (nginx's lingering_time and
#: lingering_timeout).
LINGER_S = 30.0
LINGER_SILENCE_S = 5.0
_RESET = struct.pack("ii", 1, 0)


class Link(asyncio.Protocol):
    """The part of a protocol that deals with the transport. `write_timeout_s`: how long a client may take nothing."""

    __slots__ = (
        "_deadline",
        "_departures",
        "_linger_until",
        "_loop",
        "_reading_paused",
        "_transport",
        "_unsent_bytes",
        "_watched",
        "_write_deadline",
        "_write_timeout_s",
        "peer",
        "scheme",
        "write_paused",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, write_timeout_s: float, departures: Departures | None = None
    ) -> None:
        """`departures`: who notices that the client leaves while it is not read from."""
        self._loop = loop
        self._write_timeout_s = write_timeout_s
        self._deadline = Deadline(loop, self._on_expired)
        self._write_deadline: Deadline | None = None
        self._transport: asyncio.Transport | None = None
        self._reading_paused = False
        self._departures = departures
        self._watched: int | None = None
        self._linger_until = 0.0
        self._unsent_bytes = 0
        self.peer = ""
        """The client's address, without the port."""
        self.scheme = "http"
        self.write_paused = False
        """Does the client read more slowly than it is written to?"""

    @property
    def transport(self) -> asyncio.Transport | None:
        """For who ends all connections."""
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        peer: Any = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"

    def pause_writing(self) -> None:
        self.write_paused = True
        self._watch_writing()

    def resume_writing(self) -> None:
        self.write_paused = False
        leaving = self._transport is None or self._transport.is_closing() or self._linger_until
        if self._write_deadline is not None and not leaving:
            self._write_deadline.clear()

    def _on_expired(self) -> None:
        raise NotImplementedError

    def _stop_watching(self) -> None:
        self._forget_departure()
        self._deadline.close()
        if self._write_deadline is not None:
            self._write_deadline.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _pause(self) -> None:
        if not self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()
            self._watch_departure()

    def _resume(self) -> None:
        if self._reading_paused and self._transport is not None:
            self._reading_paused = False
            self._forget_departure()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # ── a client that leaves unread ────────────────────────────────────────────────────────────

    @property
    def _half_is_all(self) -> bool:
        """Has a client that ends its half of the connection left?"""
        return True

    def _on_departed(self) -> None:
        raise NotImplementedError

    def _watch_departure(self) -> None:
        sock: socket.socket | None = self._transport.get_extra_info("socket") if self._transport else None
        if self._departures is not None and sock is not None:
            self._watched = sock.fileno()
            self._departures.watch(self._watched, self._on_departed, halfway=self._half_is_all)

    def _forget_departure(self) -> None:
        if self._watched is not None and self._departures is not None:
            self._departures.forget(self._watched, self._on_departed)
            self._watched = None

    # ── ends ───────────────────────────────────────────────────────────────────────────────────

    def _end_writing(self) -> bool:
        """Close our half and go on reading: a reset because of unread bytes could destroy the answer. False when
        that cannot be done."""
        transport = self._transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        self._linger_until = self._loop.time() + LINGER_S
        if transport.get_write_buffer_size():
            self._watch_writing()
        transport.write_eof()
        self._resume()
        self._deadline.after(LINGER_SILENCE_S)
        return True

    def _linger_on(self) -> None:
        """Something came that nobody reads any more."""
        left_s = self._linger_until - self._loop.time()
        self._deadline.after(min(LINGER_SILENCE_S, max(left_s, 0.0)))

    def _end_lingering(self) -> None:
        """The client was silent for long. It may still be reading, for which there is another limit."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._deadline.after(LINGER_SILENCE_S)
        elif self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        """What was written still goes out, for as long as the client takes it."""
        self._deadline.clear()
        self._forget_departure()
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._watch_writing()

    def _reset(self) -> None:
        """End so that the client cannot take it for the end of an answer."""
        self._deadline.clear()
        self._forget_departure()
        if self._transport is not None:
            sock: socket.socket | None = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    # ── a client that does not read ────────────────────────────────────────────────────────────

    def _watch_writing(self) -> None:
        if self._write_deadline is None:
            self._write_deadline = Deadline(self._loop, self._on_stuck)
        assert self._transport is not None
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._write_deadline.after(self._write_timeout_s)

    def _on_stuck(self) -> None:
        """The client has not read everything in all that time. Has it read anything?"""
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent >= self._unsent_bytes:
            self._reset()  # at once and for the kernel too, which would hold what it has for many minutes more
        elif unsent:
            self._watch_writing()
