"""What TCP knows of a connection, and how long it may try. Linux says all of it; elsewhere nothing is known."""

import contextlib
import socket
import struct
import sys
from typing import Protocol

#: The beginning of struct tcp_info and where in it is tcpi_retransmits; and as much of it as is needed for
#: tcpi_bytes_acked, which is its end (linux/tcp.h; Linux 4.1 has it).
_INFO_BYTES = 8
_RETRANSMITS = 2
_LONG_INFO_BYTES = 128
_ACKNOWLEDGED = struct.Struct("=120xQ")
_PROTOCOL = socket.IPPROTO_TCP


class Socket(Protocol):
    """The part of a socket, or of what an event loop shows of one, that is used."""

    def fileno(self) -> int: ...
    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


if sys.platform == "linux":
    import fcntl
    import termios

    def retransmits(sock: Socket) -> int:
        """How often in a row TCP has sent again, in vain, what is not acknowledged; 0 for a closed socket."""
        try:
            return sock.getsockopt(_PROTOCOL, socket.TCP_INFO, _INFO_BYTES)[_RETRANSMITS]
        except (OSError, ValueError):  # closed; uvloop raises the second
            return 0

    def acknowledged(sock: Socket) -> int | None:
        """How many bytes of what was sent the other side's TCP has acknowledged; None for a closed socket and where
        the system does not say."""
        try:
            info = sock.getsockopt(_PROTOCOL, socket.TCP_INFO, _LONG_INFO_BYTES)
            return _ACKNOWLEDGED.unpack(info)[0]  # type: ignore[no-any-return]
        except (OSError, ValueError, struct.error):  # the last: an old system tells less
            return None

    def queued(sock: Socket) -> int | None:
        """How many bytes our TCP holds, not sent or not acknowledged; None as in `acknowledged`. SIOCOUTQ, tcp(7)."""
        try:
            return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return None

    def give_up_after(sock: Socket, seconds: float) -> None:
        """Let the connection end with ETIMEDOUT when what is sent is not acknowledged for so long (tcp(7)).

        It also ends one whose other side has no room for so long, and a little room now and then does not always
        begin the count anew (seen with Linux 6.18).
        """
        milliseconds = max(1, min(round(1000 * seconds), 2**31 - 1))
        with contextlib.suppress(OSError, ValueError):  # closed, or a sandbox whose TCP has no such limit
            sock.setsockopt(_PROTOCOL, socket.TCP_USER_TIMEOUT, milliseconds)

else:

    def retransmits(sock: Socket) -> int:
        """Not known here."""
        return 0

    def acknowledged(sock: Socket) -> int | None:
        """Not known here."""
        return None

    def queued(sock: Socket) -> int | None:
        """Not known here."""
        return None

    def give_up_after(sock: Socket, seconds: float) -> None:
        """Not possible here."""
