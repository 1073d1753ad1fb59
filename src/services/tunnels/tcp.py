"""What TCP knows of a connection, and how long it may try. Linux says both; elsewhere nothing is known."""

import contextlib
import socket
import sys
from typing import Protocol

#: The beginning of struct tcp_info and where in it is tcpi_retransmits (linux/tcp.h).
_INFO_BYTES = 8
_RETRANSMITS = 2
_PROTOCOL = socket.IPPROTO_TCP


class Socket(Protocol):
    """The part of a socket, or of what an event loop shows of one, that is used."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


if sys.platform == "linux":

    def retransmits(sock: Socket) -> int:
        """How often in a row TCP has sent again, in vain, what is not acknowledged; 0 for a closed socket."""
        try:
            return sock.getsockopt(_PROTOCOL, socket.TCP_INFO, _INFO_BYTES)[_RETRANSMITS]
        except (OSError, ValueError):  # closed; uvloop raises the second
            return 0

    def give_up_after(sock: Socket, seconds: float) -> None:
        """Let the connection end with ETIMEDOUT when what is sent is not acknowledged for so long (tcp(7))."""
        milliseconds = max(1, min(round(1000 * seconds), 2**31 - 1))
        with contextlib.suppress(OSError, ValueError):  # closed, or a sandbox whose TCP has no such limit
            sock.setsockopt(_PROTOCOL, socket.TCP_USER_TIMEOUT, milliseconds)

else:

    def retransmits(sock: Socket) -> int:
        """Not known here."""
        return 0

    def give_up_after(sock: Socket, seconds: float) -> None:
        """Not possible here."""
