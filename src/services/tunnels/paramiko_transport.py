"""One SSH connection of paramiko: what paramiko leaves open about its end, its silence and its bounds.

Checked against paramiko 3.5 and 5.1. A thread of paramiko's reads from the socket and hands out what comes;
everybody else sends from threads of their own. What is settled here:

- paramiko's keepalive is a message that nobody answers, so it never notices a silent peer. We count what comes, and
  `ask` sends one that OpenSSH answers.
- The limits that paramiko sets itself (15 s for a greeting, 30 s for a login) leave timers behind; whoever connects
  bounds the time, and ends it with `hang_up`.
- paramiko remembers every channel it ever opened, and takes packets of any size.
- A message sent by the reading thread while keys are exchanged would wait for that thread itself, until the
  connection is given up after 30 s.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.packet import Packetizer

#: How long a thread waits to see whether its channel ended because the connection did: paramiko ends the
#: channels first, and the connection a moment later, or later still where hundreds of threads wake at once.
#: Nearly nobody waits so long: an sshd says that a stream has ended before it closes it.
SETTLE_S = 2.0
#: paramiko wants limits; the real ones are set by whoever waits.
NO_LIMIT_S = 24 * 3600.0
#: How often the reading thread of an idle connection looks around: only for new keys that are due after we have sent
#: much and heard nothing. paramiko has 0.1 s, which costs 0.5 ms of CPU in each second for each connection.
LOOK_EVERY_S = 1.0
#: OpenSSH sends packets of 256 KiB at most (PACKET_MAX_SIZE, OpenSSH 9).
MAX_READ_BYTES = 1 << 20

#: What a socket or a channel raises when it has ended.
ENDED = (OSError, EOFError, paramiko.SSHException)


class Reading:
    """The socket as paramiko's packets use it. Counts how often something came: a packet may take its time."""

    def __init__(self, sock: socket.socket) -> None:
        self._recv, self.send, self.close = sock.recv, sock.send, sock.close
        self.received = 0

    def recv(self, size: int) -> bytes:
        data = self._recv(size)
        self.received += 1
        return data


class Packets(Packetizer):
    """Packets of one connection, which knows how much comes and what broke it."""

    def __init__(self, sock: socket.socket) -> None:
        self.reading = Reading(sock)
        super().__init__(self.reading)  # type: ignore[arg-type]  # only what `Reading` has is used
        self.failure: Exception | None = None

    def start_handshake(self, timeout: float) -> None:
        """No timer: it would keep a thread for as long as its time runs, whatever became of the connection."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > MAX_READ_BYTES:
            raise paramiko.SSHException(f"a packet of {n} bytes is announced")
        return bytes(super().read_all(n, check_rekey))

    def read_message(self) -> Any:
        try:
            return super().read_message()
        except ENDED as exc:
            self.failure = exc
            raise


class _Seen:
    """Which channels there ever were, in one number: paramiko gives them rising numbers."""

    def __init__(self) -> None:
        self._highest = -1

    def __setitem__(self, chanid: int, seen: bool) -> None:
        self._highest = max(self._highest, chanid)

    def __contains__(self, chanid: object) -> bool:
        return isinstance(chanid, int) and chanid <= self._highest


class SshTransport(paramiko.Transport):
    """A connection over a connected socket, which it owns from now on."""

    packetizer: Packets

    def __init__(
        self,
        sock: socket.socket,
        on_end: Callable[[Exception | None], None],
    ) -> None:
        """`on_end` is called once in the thread of the connection, with the reason if there is one."""
        super().__init__(sock, packetizer_class=Packets)
        self._on_end = on_end
        #: What the connection runs over; `sock`, as it was given.
        self.link = sock
        self._goodbye = ""
        self._held: list[Any] = []
        self.channels_seen = _Seen()  # type: ignore[assignment]
        self.banner_timeout = self.handshake_timeout = NO_LIMIT_S
        self.auth_timeout = self.channel_timeout = NO_LIMIT_S
        self.sock.settimeout(LOOK_EVERY_S)  # its end is seen at once: `hang_up` wakes whoever reads or writes

    def prefer(self, *, host_keys: Sequence[str], ciphers: Sequence[str]) -> None:
        """What to offer, in this order, as far as paramiko has it; nothing with SHA-1 or MD5. Before the start."""
        offered = self.get_security_options()
        offered.key_types = tuple(name for name in host_keys if name in offered.key_types)
        offered.ciphers = tuple(name for name in ciphers if name in offered.ciphers)
        offered.kex = tuple(name for name in offered.kex if not name.endswith("sha1"))
        offered.digests = tuple(name for name in offered.digests if "sha2" in name)

    @property
    def received(self) -> int:
        """How often something has come."""
        return self.packetizer.reading.received

    @property
    def end_reason(self) -> Exception | None:
        """Why the connection ended, in words for a person; None if nobody said."""
        if self._goodbye:
            return ConnectionAbortedError(self._goodbye)
        failure = self.packetizer.failure or self.saved_exception
        return ConnectionResetError("Connection lost") if isinstance(failure, EOFError) else failure

    def ask(self) -> bool:
        """Ask for a sign of life; the answer counts as received, and nobody waits for it. Blocking while others send.

        Returns whether the question is with our TCP. Does nothing while the socket takes no more: what waits there has
        to go first.
        """
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        with contextlib.suppress(*ENDED, ValueError):  # it has ended: a closed socket cannot be asked about
            room = select.poll()
            room.register(self.sock, select.POLLOUT)
            if room.poll(0):
                self._send_user_message(message)
                return True
        return False

    def hang_up(self) -> None:
        """End the connection now. Returns at once; its thread then ends whatever is on it."""
        if self.is_alive():
            with contextlib.suppress(OSError):  # the other side was faster
                self.sock.shutdown(socket.SHUT_RDWR)
        else:
            self.sock.close()

    def has_ended(self) -> bool:
        """Whether a failure just seen was the end of the connection. Blocking, for SETTLE_S at most."""
        if self.is_active():
            self.join(SETTLE_S)
        return not self.is_active()

    def has_ended_with(self, exc: Exception) -> bool:
        """Whether `exc` was the end of the connection, not an answer of the other side. Blocking as `has_ended`."""
        if isinstance(exc, paramiko.ChannelException) and self.is_active():
            return False
        return self.has_ended()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self.active = False
            self.packetizer.close()
            self._on_end(self.end_reason)

    def _parse_disconnect(self, m: Any) -> None:
        m.get_int()
        self._goodbye = m.get_text()

    def _send_user_message(self, data: Any) -> None:
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._held.append(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _parse_newkeys(self, m: Any) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        held, self._held = self._held, []
        for message in held:
            super()._send_user_message(message)  # type: ignore[misc]
