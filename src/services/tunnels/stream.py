"""One direct-tcpip channel (RFC 4254 §5, §7.2), spoken by ourselves and looking like asyncio's TCP transport.

It does what asyncssh's channel and `ChannelStream` do together, with one object instead of a dozen and one call
per packet. asyncssh's connection calls the methods that it calls on every channel (`process_…`, `log_…`);
our connection hands data packets to `accept`; the owner of the stream calls the transport half.

Windows, in one place: the other side may send `window` bytes ahead of what the owner has taken, so a paused stream
holds at most that much. New room is given in eighths, so that at least seven of them are under way on a long line;
asyncssh gives it in halves and gets half of window per round trip (measured at 50 to 200 ms).
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Final

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    OPEN_CONNECT_FAILED,
)
from asyncssh.packet import SSHPacket, String, UInt32

from vastproxy.services.tunnels.base import StreamProtocolT
from vastproxy.services.tunnels.sending import MESSAGE, PACKET_BYTES, SIZED_MESSAGE, Carrier, SendingHalf

#: Largest piece in which held data is handed on.
_PIECE_BYTES: Final = 65_536
#: In how many parts a window is given anew.
_REFILLS: Final = 8
_SHUT: Final = -1


@functools.cache  # one number for all streams: a number of its own would be further memory to touch with each packet
def _refill_below(window: int) -> int:
    return window - window // _REFILLS


class DirectStream(SendingHalf[StreamProtocolT]):
    """A channel and the protocol that it drives.

    `explain_end` makes of the reason for the connection's end what the owner is told.
    """

    __deletable__ = ("_factory",)  # for mypyc: see setup.py
    __slots__ = (
        "_explain_end",
        "_factory",
        "_opening",
        "_paused",
        "_refill",
        "_room",
        "_told_eof",
        "_took_eof",
        "_window",
    )

    def __init__(
        self,
        carrier: Carrier,
        factory: Callable[[], StreamProtocolT],
        explain_end: Callable[[Exception | None], Exception],
        loop: asyncio.AbstractEventLoop,
        *,
        window: int,
    ) -> None:
        super().__init__(carrier, loop)
        self._factory = factory
        self._explain_end = explain_end
        self._opening: asyncio.Future[StreamProtocolT] | None = None
        self._window = window
        #: Bytes that the other side may still send; less than none while it may send nothing, not even no bytes.
        self._room = _SHUT
        #: More room is given when there is less than this.
        self._refill = _refill_below(window)
        self._paused = self._took_eof = self._told_eof = False

    # Opening.

    def begin(self, host: str, port: int) -> "asyncio.Future[StreamProtocolT]":
        """Ask for the channel. The future brings `protocol`, or raises ChannelOpenError.

        Cancelling it abandons the stream: what opens later is closed at once.
        """
        assert self._carrier is not None
        self._number = self._carrier.add_channel(self)
        self._opening = self._loop.create_future()
        self._carrier.send_message(
            bytes((MSG_CHANNEL_OPEN,))
            + String(b"direct-tcpip")
            + UInt32(self._number)
            + UInt32(self._window)
            + UInt32(PACKET_BYTES)
            + String(host)
            + UInt32(port)
            + String(b"")  # where the connection comes from: nobody's business
            + UInt32(0)
        )
        return self._opening

    def process_open_confirmation(
        self, send_chan: int, send_window: int, send_pktsize: int, packet: SSHPacket
    ) -> None:
        packet.check_end()
        opening, self._opening = self._opening, None
        if opening is None:
            raise asyncssh.ProtocolError("Channel not being opened")
        self._peer, self._credit, self._room = send_chan, send_window, self._window
        self._packet_bytes = min(send_pktsize, PACKET_BYTES)
        if opening.done():  # abandoned
            self._ended = self._closing = True
            self._send_close()
            return
        factory = self._factory
        del self._factory
        try:
            self.protocol = factory()
            self.protocol.connection_made(self)
        except Exception as exc:
            self._ended = self._closing = True
            self._send_close()
            opening.set_exception(exc)
        else:
            opening.set_result(self.protocol)

    def process_open_failure(self, code: int, reason: str, lang: str) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            raise asyncssh.ProtocolError("Channel not being opened")
        self._ended = self._closing = True
        if not opening.done():
            opening.set_exception(asyncssh.ChannelOpenError(code, reason, lang))
        self._forget()

    def abandon(self) -> None:
        """Nobody waits for the stream any more, although it may have opened just now."""
        if hasattr(self, "protocol"):
            self.abort()

    # What the connection calls.

    def accept(self, data: bytes) -> bool:
        """Take the data of one packet; False when the other side must not send it."""
        size = len(data)
        self._room = room = self._room - size
        if room < 0:
            return False
        held = self._held
        if held is not None:
            held += data
        elif size and not self._closing:
            if room < self._refill:
                self._give_room()
            try:
                self.protocol.data_received(data)
            except Exception as exc:
                self._fail(exc)
        return True

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:
        """One message for this channel. Raises ProtocolError, which ends the connection."""
        if self._opening is not None or self._took_close:
            raise asyncssh.ProtocolError("Channel not open")
        if pkttype == MSG_CHANNEL_DATA:
            data = packet.get_string()
            packet.check_end()
            if not self.accept(data):
                raise asyncssh.ProtocolError("Window exceeded, or data after the end")
        elif pkttype == MSG_CHANNEL_WINDOW_ADJUST:
            self._credit += packet.get_uint32()
            packet.check_end()
            self._flush()
        elif pkttype == MSG_CHANNEL_EOF:
            packet.check_end()
            self._took_eof = True
            self._room = _SHUT
            self._tell_end()
        elif pkttype == MSG_CHANNEL_CLOSE:
            packet.check_end()
            self._took_close = True
            self._room = _SHUT
            self._send_close()
            self._loop.call_soon(self._tell_end)
        elif pkttype == MSG_CHANNEL_REQUEST:
            self._refuse_request(packet)
        else:
            raise asyncssh.ProtocolError(f"Unexpected message {pkttype} for a channel")
        return True

    def process_connection_close(self, exc: Exception | None) -> None:
        """The whole connection has ended; nothing more can be sent."""
        opening, self._opening = self._opening, None
        self._sent_close = self._took_close = True
        self._peer = self._held = self._unsent = None
        self._forget()
        if opening is None:
            self._end(None if self._closing else self._explain_end(exc))
        else:
            self._ended = self._closing = True
            if not opening.done():
                opening.set_exception(asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "SSH connection closed"))

    def log_received_packet(self, *args: object) -> None:
        """asyncssh writes packets to its log through this; ours are not written."""

    def log_sent_packet(self, *args: object) -> None:
        """See `log_received_packet`."""

    # What the owner of the stream calls.

    def pause_reading(self) -> None:
        self._paused = True
        if self._held is None and not self._closing:
            self._held = bytearray()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._hand_on)  # later, so that a parser is never entered twice

    # Receiving.

    def _refuse_request(self, packet: SSHPacket) -> None:
        """No request is known on such a channel, but sshd asks for signs of life on any (ClientAliveInterval)."""
        packet.get_string()
        if packet.get_boolean() and self._carrier is not None and self._peer is not None:
            self._carrier.send_message(MESSAGE(MSG_CHANNEL_FAILURE, self._peer))

    def _give_room(self) -> None:
        """Let the other side send as much more as the owner has taken."""
        if self._carrier is None or self._peer is None or self._took_eof:
            return
        more = self._window - self._room - len(self._held or b"")
        self._room += more
        self._carrier.send_message(SIZED_MESSAGE(MSG_CHANNEL_WINDOW_ADJUST, self._peer, more))

    def _hand_on(self) -> None:
        """Give the owner what was held back while it was paused, until it pauses again."""
        while self._held and not self._paused:
            data = bytes(self._held[:_PIECE_BYTES])
            del self._held[:_PIECE_BYTES]
            if self._room + len(self._held) < self._refill:
                self._give_room()
            try:
                self.protocol.data_received(data)
            except Exception as exc:
                self._fail(exc)
        if not self._paused:
            self._held = None
        self._tell_end()

    def _tell_end(self) -> None:
        """Tell the owner what has ended, once it has taken everything before."""
        if self._held or not (self._took_eof or self._took_close):
            return
        if not self._told_eof and not self._closing:
            self._told_eof = True
            try:
                keep_open = self.protocol.eof_received()
            except Exception as exc:
                self._fail(exc)
            else:
                if not keep_open:
                    self.close()
        if self._took_close:
            self._loop.call_soon(self._end, None)
