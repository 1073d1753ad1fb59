"""asyncssh's connection with a shorter way for the packets that carry streams.

Login, key exchange, host keys, commands and every message that is not a stream's data stay with
asyncssh. What is done here instead, and only while AES-GCM is in use and no new keys are being agreed on:

- A received packet is decrypted where it lies and its data given to its stream. asyncssh copies all that it has
  received once per packet, makes a cipher object, a parser and log texts for each, and goes through ten calls.
- A sent packet is built in one step. asyncssh sends an empty packet ahead of each one, a defence that CBC ciphers
  need (RFC 4251 §9.3.1), and asks the system for random padding, which under GCM hides nothing.
- What streams send is held back while the socket takes no more. asyncssh would keep all of it in memory.

This reaches into asyncssh, so it is done only where `shape.reason_not_to` knows its insides. Elsewhere everything works
through asyncssh alone, at several times the CPU.
"""

import asyncio
import os
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_IGNORE
from cryptography.exceptions import InvalidTag

from vastproxy.services.tunnels.aesgcm import COUNTER_WRAP, NONCE, AesGcm, adopted
from vastproxy.services.tunnels.stream import DirectStream

_TAG_BYTES: Final = 16
_BLOCK_BYTES: Final = 16
#: The shortest packet that can carry data: its length, one block, the tag.
_LEAST_BYTES: Final = 4 + _BLOCK_BYTES + _TAG_BYTES
#: Longer ones are refused, by asyncssh.
_MOST_BYTES: Final = 262_144
#: From here on it costs less to refer to bytes than to copy them.
_LARGE_BYTES: Final = 8_192
_SEQUENCE_WRAP: Final = (1 << 32) - 1
#: Padding, message, channel, length of the data.
_DATA_HEAD: Final = struct.Struct(">BBII").unpack_from
_DATA_HEAD_BYTES: Final = 10
#: The lengths of most packets, by the bytes that announce them: a table is quicker than arithmetic.
_LENGTHS: Final = {length.to_bytes(4, "big"): length for length in range(_BLOCK_BYTES, 4096, _BLOCK_BYTES)}
#: A read of so many bytes may be followed by as much again: uvloop reads up to 32 times 256 KB before anybody else has
#: a turn, which is half a second of tokens.
_LARGE_READ_BYTES: Final = 65_536
#: Bytes kept for the socket before streams are held back: enough for several packets in one system call.
_HIGH_WATER: Final = 262_144


class FastConnection(asyncssh.SSHClientConnection):
    """A client's connection. Implements `stream.Carrier`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions) -> None:
        super().__init__(loop, options, wait="auth")
        self.is_congested = False
        self._held_back: deque[Callable[[], None]] = deque()
        self._socket: asyncio.Transport
        #: What is written in one system call once all that has happened by now has been dealt with.
        self._outbound: list[bytes] = []
        self._outbound_bytes = 0
        #: How often something was to be written since something came, and between that and what came before.
        self._writes = self._usual_writes = 0
        #: The beginning of a packet that has not come whole, in parts; how much of it is there, and the whole.
        self._parts: list[bytes] = []
        self._parts_bytes = self._parts_needed = 0
        #: How often something has come; see `pulse`.
        self.received = 0
        #: By the size of a message modulo that of a block: the padding's size, as a number and as sent, and itself.
        self._paddings = tuple(
            (size, bytes((size,)), os.urandom(size)) for size in (*range(16, 3, -1), *range(19, 16, -1))
        )

    @property
    def outbound_bytes(self) -> int:
        """What was sent and is not with the transport yet."""
        return self._outbound_bytes

    # Received.

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        self.received += 1
        self._usual_writes, self._writes = self._writes, 0
        if len(data) >= _LARGE_READ_BYTES and not self._socket.is_closing():
            self._socket.pause_reading()
            self._loop.call_soon(self._read_on)
        if self._parts:
            self._parts.append(data)
            self._parts_bytes += len(data)
            if self._parts_bytes < self._parts_needed:
                return
            data = b"".join(self._parts)
            self._parts = []
        elif self._inpbuf or self._packet:
            data = self._reclaimed() + data
        at, end = 0, len(data)
        while at < end and self._transport is not None:
            if not self._is_between_packets():
                super().data_received(data[at:])
                return
            at = self._take_data(data, at)
            left = end - at
            length = 4 + int.from_bytes(data[at : at + 4], "big") + _TAG_BYTES if left >= 4 else _LEAST_BYTES
            if length > _MOST_BYTES:
                super().data_received(data[at:])  # which ends the connection
                return
            if length > left:
                if left:
                    self._parts, self._parts_bytes, self._parts_needed = [data[at:]], left, length
                break
            super().data_received(data[at : at + length])
            at += length

    def _read_on(self) -> None:
        if not self._socket.is_closing():
            self._socket.resume_reading()

    def _take_data(self, data: bytes, at: int) -> int:
        """Give streams the data of the packets from `at` on. Returns where a packet begins that is none of theirs,
        or not whole."""
        cipher, end = self._recv_encryption, len(data)
        assert isinstance(cipher, AesGcm)
        channels: dict[int, Any] = self._channels
        stream_of = channels.get
        decrypt, fixed, counter = cipher.decrypt, cipher.fixed, cipher.counter
        length_of, taken = _LENGTHS.get, 0
        try:
            while True:
                begin = at + 4
                header = data[at:begin]
                length = length_of(header) or int.from_bytes(header, "big")
                after = begin + length + _TAG_BYTES
                if after > end or length < _BLOCK_BYTES:
                    break
                sealed = data[begin:after] if length < _LARGE_BYTES else memoryview(data)[begin:after]
                plain = decrypt(NONCE(fixed, counter), sealed, header)
                padding, message, number, size = _DATA_HEAD(plain)
                behind = _DATA_HEAD_BYTES + size
                if message != MSG_CHANNEL_DATA or behind + padding != length:
                    break
                stream = stream_of(number)
                if type(stream) is not DirectStream or not stream.accept(plain[_DATA_HEAD_BYTES:behind]):
                    break
                counter = (counter + 1) & COUNTER_WRAP
                taken += 1
                at = after
        except InvalidTag:
            pass  # asyncssh comes to the same conclusion, and knows how to end the connection
        finally:
            cipher.counter = counter
            self._recv_seq = (self._recv_seq + taken) & _SEQUENCE_WRAP
        return at

    def _is_between_packets(self) -> bool:
        """Is it clear what to do with the next bytes: a packet, under AES-GCM, after the login?"""
        return (
            type(self._recv_encryption) is AesGcm
            and self._auth_complete
            and not self._inpbuf
            and self._recv_handler == self._recv_pkthdr
        )

    def _reclaimed(self) -> bytes:
        """What asyncssh has of a packet that has not come whole, if that is how it stands."""
        if type(self._recv_encryption) is not AesGcm or not self._auth_complete:
            return b""
        if self._recv_handler == self._recv_packet:
            self._recv_handler = self._recv_pkthdr
        elif self._recv_handler != self._recv_pkthdr:
            return b""
        data = self._packet + self._inpbuf
        self._packet = self._inpbuf = b""
        return data

    # Sent.

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        if pkttype == MSG_IGNORE and type(self._send_encryption) is AesGcm:
            return  # asyncssh sends one ahead of each packet
        super().send_packet(pkttype, *args, handler=handler)

    def log_sent_packet(self, *args: object) -> None:
        """asyncssh makes texts of each packet for a log that is hardly ever written."""

    def log_received_packet(self, *args: object) -> None:
        """See `log_sent_packet`."""

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        super().send_newkeys(k, h)
        if self._compressor is None and self._next_decompressor is None:
            self._send_encryption = adopted(self._send_encryption)
            self._next_recv_encryption = adopted(self._next_recv_encryption)

    def send_message(self, head: bytes, data: bytes | bytearray = b"") -> None:
        """Send one message of a channel: `head` begins with its number."""
        cipher = self._send_encryption
        if (
            type(cipher) is not AesGcm
            or not self._kex_complete
            or self._transport is None
            or self._rekey_bytes_sent >= self._rekey_bytes
            or (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        ):
            self.send_packet(head[0], head[1:] + data)
            return
        size = 1 + len(head) + len(data)
        padding, first, filling = self._paddings[size & 15]
        size += padding
        header = size.to_bytes(4, "big")
        plain = b"".join((first, head, data, filling))
        counter = cipher.counter
        cipher.counter = (counter + 1) & COUNTER_WRAP
        sealed = cipher.encrypt(NONCE(cipher.fixed, counter), plain, header)
        self._send_seq = (self._send_seq + 1) & _SEQUENCE_WRAP
        self._rekey_bytes_sent = (
            self._rekey_bytes_sent + size
        )  # mypyc knows no += for a base that is not compiled
        self._write_soon((header, sealed), 4 + size + _TAG_BYTES)

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._write_soon((data,), len(data))

    def _write_soon(self, parts: tuple[bytes, ...], size: int) -> None:
        """Write with everything else that is sent before the loop has dealt with all that happened by now; at once
        where nothing else was to be expected."""
        self._writes = writes = self._writes + 1
        outbound = self._outbound
        is_lone = writes == 1 and self._usual_writes <= 1
        if not (outbound or is_lone):
            self._loop.call_soon(self._write_out)
        outbound += parts
        self._outbound_bytes = size = self._outbound_bytes + size
        if is_lone or size >= _HIGH_WATER:
            self._write_out()

    def _write_out(self) -> None:
        parts, self._outbound, self._outbound_bytes = self._outbound, [], 0
        if parts and not self._socket.is_closing():
            # Not writelines(): asyncio's forgets to call pause_writing (seen with Python 3.13.0).
            self._socket.write(b"".join(parts))

    # Backpressure.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self._socket.set_write_buffer_limits(high=_HIGH_WATER)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False
        while self._held_back and not self.is_congested:
            self._held_back.popleft()()

    def call_when_free(self, flush: Callable[[], None]) -> None:
        """Call `flush` when the socket takes data again, after those who have waited longer."""
        self._held_back.append(flush)

    def disconnect(self, code: int, reason: str, lang: str = "en-US") -> None:
        channels: dict[int, Any] = self._channels
        for channel in list(channels.values()):
            if type(channel) is DirectStream:  # asyncssh would close it as if its owner had
                channel.process_connection_close(None)
        super().disconnect(code, reason, lang)


async def connect(
    host: str,
    port: int,
    options: asyncssh.SSHClientConnectionOptions,
    client_factory: Callable[[], asyncssh.SSHClient],
) -> FastConnection:
    """Connect and log in as `asyncssh.connect` does; it has no way to be given a class of connections."""
    loop = asyncio.get_running_loop()
    options = await asyncssh.SSHClientConnectionOptions.construct(
        options, host=host, port=port, client_factory=client_factory
    )
    options.waiter = loop.create_future()
    try:
        _, conn = await loop.create_connection(lambda: FastConnection(loop, options), host, port)
        conn.set_extra_info(host=host, port=port)
        try:
            await options.waiter
        except BaseException:
            conn.abort()
            await conn.wait_closed()
            raise
    finally:
        options.waiter.cancel()
    return conn
