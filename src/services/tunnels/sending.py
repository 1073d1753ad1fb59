"""The sending half of a channel of our own (RFC 4254 §5.2, §5.3), and how it ends.

What the other side's window and the socket take is sent at once and uncopied; the rest waits, and the owner is asked to
pause when that is much. EOF and the end come after everything that was written.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA, MSG_CHANNEL_EOF

from vastproxy.services.tunnels.base import StreamProtocolT

#: Largest piece of data in one packet. OpenSSH reads no more than this from a socket at once.
PACKET_BYTES: Final = 32_768
#: A message: its kind and the channel; and for data and windows a length.
MESSAGE: Final = struct.Struct(">BI").pack
SIZED_MESSAGE: Final = struct.Struct(">BII").pack
#: Unsent bytes above which the owner is asked to pause, and below which it may go on; asyncio's own figures.
_HIGH_WATER: Final = 65_536
_LOW_WATER: Final = 16_384


class Carrier(Protocol):
    """What a stream needs of its connection."""

    #: The socket takes no more for now; messages other than data are sent all the same.
    is_congested: bool

    def add_channel(self, chan: Any) -> int: ...
    def remove_channel(self, recv_chan: int) -> None: ...
    def send_message(self, head: bytes, data: bytes | bytearray = b"") -> None: ...
    def call_when_free(self, flush: Callable[[], None]) -> None: ...


class SendingHalf(Generic[StreamProtocolT]):
    """What the owner of a stream writes to. Implements that part of `base.Stream`."""

    __deletable__ = ("protocol",)  # for mypyc: see setup.py
    __slots__ = (
        "_carrier",
        "_closing",
        "_credit",
        "_ended",
        "_eof_due",
        "_held",
        "_is_queued",
        "_loop",
        "_number",
        "_packet_bytes",
        "_peer",
        "_sent_close",
        "_sent_eof",
        "_took_close",
        "_unsent",
        "_writer_paused",
        "protocol",
    )

    #: What the owner is called through. There from the channel's opening to its end.
    protocol: StreamProtocolT

    def __init__(self, carrier: Carrier, loop: asyncio.AbstractEventLoop) -> None:
        self._carrier: Carrier | None = carrier
        self._loop = loop
        self._number = 0
        #: The other side's number of the channel; None while nothing may be sent on it.
        self._peer: int | None = None
        #: How much the other side takes, in all and in one packet.
        self._credit = 0
        self._packet_bytes = PACKET_BYTES
        self._unsent: bytearray | None = None
        self._writer_paused = self._is_queued = False
        self._eof_due = self._sent_eof = self._sent_close = self._took_close = False
        #: What came while the owner was paused; None while it takes data as it comes.
        self._held: bytearray | None = None
        self._closing = self._ended = False

    def write(self, data: bytes) -> None:
        carrier, peer, size = self._carrier, self._peer, len(data)
        if self._eof_due or self._closing or peer is None or carrier is None:
            return  # closed; `connection_lost` tells or has told
        if self._unsent is None:
            if 0 < size <= self._packet_bytes and size <= self._credit and not carrier.is_congested:
                self._credit -= size
                carrier.send_message(SIZED_MESSAGE(MSG_CHANNEL_DATA, peer, size), data)
                return
            sent = self._send(data)
            if sent == size:
                return
            self._unsent = bytearray(memoryview(data)[sent:])
        else:
            self._unsent += data
        self._queue()
        if len(self._unsent) > _HIGH_WATER and not self._writer_paused:
            self._writer_paused = True
            self._tell_writer(self.protocol.pause_writing)

    def write_eof(self) -> None:
        if not self._closing and not self._eof_due:
            self._eof_due = True
            self._flush()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._held = None
            self._flush()

    def abort(self) -> None:
        if not self._ended:
            self._closing = True
            self._held = None
            self._send_close()
            self._loop.call_soon(self._end, None)

    def is_closing(self) -> bool:
        return self._closing

    # Sending.

    def _send(self, data: bytes | bytearray) -> int:
        """Send from the front of `data` what the window and the connection take. Returns how much that was."""
        carrier, size = self._carrier, len(data)
        if carrier is None or self._peer is None:
            return size
        sent = 0
        while sent < size and self._credit and not carrier.is_congested:
            piece = data[sent : sent + min(self._credit, self._packet_bytes)]
            self._credit -= len(piece)
            sent += len(piece)
            carrier.send_message(SIZED_MESSAGE(MSG_CHANNEL_DATA, self._peer, len(piece)), piece)
        return sent

    def _queue(self) -> None:
        """Wait for the connection's turn, if that is what holds the data back and not the window."""
        if self._carrier is not None and self._credit and not self._is_queued:
            self._is_queued = True
            self._carrier.call_when_free(self._flush_in_turn)

    def _flush_in_turn(self) -> None:
        self._is_queued = False
        self._flush()

    def _flush(self) -> None:
        """Send what was held back and what was to follow it."""
        if self._unsent is not None:
            del self._unsent[: self._send(self._unsent)]
            if self._writer_paused and len(self._unsent) <= _LOW_WATER and not self._closing:
                self._writer_paused = False
                self._tell_writer(self.protocol.resume_writing)
            if self._unsent:
                self._queue()
                return
            self._unsent = None
        if self._closing:
            self._send_close()
            self._loop.call_soon(self._end, None)
        elif self._eof_due and not self._sent_eof and self._carrier is not None and self._peer is not None:
            self._sent_eof = True
            self._carrier.send_message(MESSAGE(MSG_CHANNEL_EOF, self._peer))

    def _send_close(self) -> None:
        """End the channel on our side; what was not sent is dropped."""
        self._unsent = None
        if not self._sent_close and self._carrier is not None and self._peer is not None:
            self._sent_close = True
            self._carrier.send_message(MESSAGE(MSG_CHANNEL_CLOSE, self._peer))
            self._peer = None
        if self._took_close:
            self._forget()

    def _forget(self) -> None:
        """Both sides have closed the channel: its number is free."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.remove_channel(self._number)

    def _tell_writer(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as exc:
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        """The protocol raised: report it as asyncio does and end this stream alone."""
        self._report(exc)
        if not self._ended:
            self._closing = True
            self._held = None
            self._send_close()
            self._loop.call_soon(self._end, exc)

    def _report(self, exc: Exception) -> None:
        protocol = getattr(self, "protocol", None)
        self._loop.call_exception_handler(
            {"message": "the protocol of an SSH stream failed", "exception": exc, "protocol": protocol}
        )

    def _end(self, exc: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._held = None
        try:
            self.protocol.connection_lost(exc)
        except Exception as error:
            self._report(error)
        del self.protocol  # it refers to us: nothing is to be left for the garbage collector
