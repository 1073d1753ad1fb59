"""The pulse of an asyncssh connection, as the sweeper feels it.

Checked against asyncssh 2.24; used only where `shape.reason_not_to` knows its insides. Elsewhere asyncssh asks for
signs of life itself, by its own options, and knows no doubt.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncssh

from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.delivery import Delivery
from vastproxy.services.tunnels.fastpath import FastConnection
from vastproxy.services.tunnels.liveness import Question

#: OpenSSH answers it, with a failure (clientloop.c and serverloop.c, OpenSSH 9); so does everybody else (RFC 4254 §4).
QUESTION: Final = b"keepalive@openssh.com"
#: Looks after a sending at which TCP is asked how it went: it tries again for the first time after 200 ms and more.
_LOOKS_AFTER_SENDING: Final = 4


class AsyncsshPulse:
    """See `sweeper.Pulse`."""

    def __init__(
        self,
        conn: asyncssh.SSHClientConnection,
        *,
        doubt: Callable[[bool], None],
        die: Callable[[float], None],
    ) -> None:
        self._conn: Any = conn
        self._counts_itself = isinstance(conn, FastConnection)
        self._sock: tcp.Socket | None = conn.get_extra_info("socket")
        self._delivery = Delivery(self._sock)
        self._sent = -1
        self._looks_left = 0
        self.doubt = doubt
        self.die = die
        #: Channels that stay open without anybody waiting for what comes over them.
        self.watches = 0
        #: asyncssh hands each answer to whoever waited longest. Who has left gets none.
        self._nobody: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._nobody.cancel()

    @property
    def received(self) -> int:
        conn = self._conn
        if self._counts_itself:
            return conn.received  # type: ignore[no-any-return]
        # Packets, and what is there of the next one.
        return (conn._recv_seq << 32) + len(conn._packet) + len(conn._inpbuf)  # type: ignore[no-any-return]

    @property
    def is_busy(self) -> bool:
        return len(self._conn._channels) > self.watches

    def retransmits(self, *, is_asked: bool) -> int:
        sent = self._conn._send_seq
        if sent != self._sent:
            self._sent = sent
            self._looks_left = _LOOKS_AFTER_SENDING
        elif self._looks_left:
            self._looks_left -= 1
        elif not is_asked:
            return 0
        if self._sock is None:
            return 0
        retransmits = tcp.retransmits(self._sock)
        if retransmits:
            self._looks_left = _LOOKS_AFTER_SENDING
        return retransmits

    def allow_s(self, seconds: float) -> None:
        """Let TCP end the connection when what is sent is not acknowledged for so long."""
        if self._sock is not None:
            tcp.give_up_after(self._sock, seconds)

    def question(self) -> Question:
        return self._delivery.look()

    def ask(self) -> None:
        conn = self._conn
        if conn._transport is None:  # it has ended
            return
        conn._global_request_waiters.append(self._nobody)
        conn._send_global_request(QUESTION, want_reply=True)
        if conn._transport is not None:  # sending may end it
            collected = conn.outbound_bytes if self._counts_itself else 0
            self._delivery.asked(collected + conn._transport.get_write_buffer_size())
