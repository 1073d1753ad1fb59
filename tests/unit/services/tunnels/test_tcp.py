"""What TCP is asked and told, with real sockets; elsewhere than on Linux nothing is known and nothing fails."""

import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from vastproxy.services.tunnels.tcp import acknowledged, give_up_after, queued, retransmits

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
    ):
        other, _ = server.accept()
        with other:
            yield one, other


def test_what_is_acknowledged_was_not_sent_again(pair: Pair) -> None:
    pair[0].sendall(b"x" * 1000)
    assert len(pair[1].recv(1000)) > 0
    assert retransmits(pair[0]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is of Linux")
@pytest.mark.parametrize(("seconds", "milliseconds"), [(15, 15_000), (0.6, 600), (0, 1), (1e9, 2**31 - 1)])
def test_the_limit_is_in_milliseconds_and_within_bounds(
    pair: Pair, seconds: float, milliseconds: int
) -> None:
    """0 would mean the system's own limit, a quarter of an hour."""
    give_up_after(pair[0], seconds)
    assert pair[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds


def test_a_closed_socket_says_nothing(pair: Pair) -> None:
    pair[0].close()
    assert retransmits(pair[0]) == 0
    assert (acknowledged(pair[0]), queued(pair[0])) == (None, None)
    give_up_after(pair[0], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it")
def test_what_was_sent_is_queued_and_then_acknowledged(pair: Pair) -> None:
    """Each byte counts once, so that their sum is a place in what was sent."""
    ours, theirs = pair
    theirs.setblocking(False)
    ours.setblocking(False)
    before = acknowledged(ours)
    assert before is not None
    sent = 0
    while True:
        try:
            sent += ours.send(b"x" * 65_536)
        except BlockingIOError:
            break
    assert settled(ours, sent + before) > 0
    received = 0
    until = time.monotonic() + 10
    while received < sent and time.monotonic() < until:
        try:
            received += len(theirs.recv(65_536))
        except BlockingIOError:
            os.sched_yield()
    while queued(ours) and time.monotonic() < until:
        os.sched_yield()
    assert (acknowledged(ours), queued(ours)) == (before + sent, 0)


def settled(sock: socket.socket, total: int) -> int:
    """How much is queued once both numbers are of the same moment."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        acked, waiting = acknowledged(sock), queued(sock)
        assert acked is not None
        assert waiting is not None
        if acked + waiting == total:
            return waiting
    raise AssertionError("they never made up what was sent")


def test_a_system_that_tells_less_says_nothing() -> None:
    """An old kernel's answer is shorter than what was asked for."""

    class Old(socket.socket):
        def getsockopt(self, *args: int) -> bytes:  # type: ignore[override]
            return bytes(104)

    with Old() as sock:
        assert acknowledged(sock) is None


def test_neither_does_one_that_is_not_of_tcp() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert retransmits(one) == 0
        assert acknowledged(one) is None
        give_up_after(one, 1)
