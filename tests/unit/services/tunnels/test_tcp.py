"""What TCP is asked and told, with real sockets; elsewhere than on Linux nothing is known and nothing fails."""

import socket
import sys
from collections.abc import Iterator

import pytest

from vastproxy.services.tunnels.tcp import give_up_after, retransmits

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
    give_up_after(pair[0], 1)


def test_neither_does_one_that_is_not_of_tcp() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert retransmits(one) == 0
        give_up_after(one, 1)
