"""What the sweeper is told of an asyncssh connection, and how seldom the system is asked for it."""

import asyncio
import socket
import sys
from typing import Any, cast

import asyncssh
import pytest

from vastproxy.services.tunnels.liveness import Question
from vastproxy.services.tunnels.pulse import QUESTION, AsyncsshPulse


class FakeSocket:
    """TCP's view of a connection: `sent_again` times in a row."""

    def __init__(self) -> None:
        self.sent_again = 0
        self.readings = 0
        self.options: list[tuple[int, int, int]] = []

    def fileno(self) -> int:
        return -1

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        self.readings += 1
        return bytes((1, 0, self.sent_again, 0, 0, 0, 0, 0))[:size]

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        self.options.append((level, option, value))


class FakeTransport:
    unwritten = 0

    def get_write_buffer_size(self) -> int:
        return self.unwritten


class FakeConnection:
    """What is used of asyncssh's."""

    def __init__(self, sock: FakeSocket | None) -> None:
        self._sock = sock
        self._send_seq = self._recv_seq = 0
        self._packet = self._inpbuf = b""
        self._channels: dict[int, object] = {}
        self._transport: FakeTransport | None = FakeTransport()
        self._global_request_waiters: list[asyncio.Future[object]] = []
        self.requests: list[tuple[bytes, bool]] = []

    def get_extra_info(self, name: str) -> FakeSocket | None:
        assert name == "socket"
        return self._sock

    def _send_global_request(self, request: bytes, *, want_reply: bool) -> None:
        self.requests.append((request, want_reply))
        if self._transport is not None:
            self._transport.unwritten += len(request)


def pulse_of(conn: FakeConnection) -> AsyncsshPulse:
    def nothing(_: Any) -> None:
        """Not called here."""

    return AsyncsshPulse(cast(asyncssh.SSHClientConnection, conn), doubt=nothing, die=nothing)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
async def test_tcp_is_asked_for_a_while_after_something_was_sent() -> None:
    """And as long as it tries again, and while a question is open."""
    sock = FakeSocket()
    conn = FakeConnection(sock)
    pulse = pulse_of(conn)
    for _ in range(20):
        pulse.retransmits(is_asked=False)
    assert sock.readings == 5, "the look that sees it, and four more"
    conn._send_seq += 1
    sock.sent_again = 1
    assert [pulse.retransmits(is_asked=False) for _ in range(20)] == 20 * [1]
    sock.sent_again = 0
    for _ in range(20):
        pulse.retransmits(is_asked=False)
    before = sock.readings
    assert [pulse.retransmits(is_asked=False) for _ in range(20)] == 20 * [0]
    assert sock.readings == before
    sock.sent_again = 3
    assert pulse.retransmits(is_asked=True) == 3


async def test_a_connection_without_a_socket_says_nothing() -> None:
    """It has ended already."""
    conn = FakeConnection(None)
    conn._transport = None
    pulse = pulse_of(conn)
    pulse.allow_s(15)
    pulse.ask()
    assert pulse.retransmits(is_asked=True) == 0
    assert (conn.requests, conn._global_request_waiters) == ([], [])


async def test_every_byte_counts() -> None:
    """Of a packet that has not come whole too."""
    conn = FakeConnection(FakeSocket())
    pulse = pulse_of(conn)
    seen = [pulse.received]
    for packets, packet, rest in ((0, b"", b"x"), (0, b"head", b""), (0, b"head", b"x"), (1, b"", b"")):
        conn._recv_seq, conn._packet, conn._inpbuf = packets, packet, rest
        seen.append(pulse.received)
    assert len(set(seen)) == len(seen)


async def test_a_question_waits_for_nobody() -> None:
    """The answer goes to one who has left, in turn."""
    conn = FakeConnection(FakeSocket())
    pulse = pulse_of(conn)
    pulse.ask()
    pulse.ask()
    assert conn.requests == 2 * [(QUESTION, True)]
    assert [waiter.cancelled() for waiter in conn._global_request_waiters] == [True, True]
    assert pulse.question() is Question.ARRIVED, "where nobody knows better"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
async def test_a_question_has_not_arrived_while_it_stands_in_the_transports_buffer() -> None:
    """Behind what our TCP holds."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
    ):
        conn = FakeConnection(cast(Any, ours))
        pulse = pulse_of(conn)
        pulse.ask()
        assert pulse.question() is Question.STANDING
        ours.sendall(b"some of")
        async with asyncio.timeout(5):
            while (question := pulse.question()) is Question.STANDING:
                await asyncio.sleep(0)
        assert question is Question.MOVING
        ours.sendall(QUESTION)
        async with asyncio.timeout(5):
            while pulse.question() is not Question.ARRIVED:
                await asyncio.sleep(0)


async def test_a_connection_that_ends_as_it_is_asked_is_asked_no_more() -> None:
    class Ending(FakeConnection):
        def _send_global_request(self, request: bytes, *, want_reply: bool) -> None:
            self._transport = None

    pulse = pulse_of(Ending(FakeSocket()))
    pulse.ask()
    assert pulse.question() is Question.ARRIVED


async def test_somebody_waits_unless_all_channels_are_watched() -> None:
    conn = FakeConnection(FakeSocket())
    pulse = pulse_of(conn)
    assert not pulse.is_busy
    conn._channels[0] = object()
    assert pulse.is_busy
    pulse.watches = 1
    assert not pulse.is_busy
    conn._channels[1] = object()
    assert pulse.is_busy


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
async def test_tcp_is_told_how_long_it_may_try() -> None:
    sock = FakeSocket()
    pulse_of(FakeConnection(sock)).allow_s(15)
    assert sock.options == [(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15_000)]
