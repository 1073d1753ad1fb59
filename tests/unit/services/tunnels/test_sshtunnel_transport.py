"""paramiko's connection with our bounds, over a socket whose other end the test holds."""

import socket
import threading
from collections.abc import Iterator

import paramiko
import pytest

from vastproxy.services.tunnels.asyncssh_engine import CIPHERS, HOST_KEY_ALGORITHMS
from vastproxy.services.tunnels.paramiko_transport import MAX_READ_BYTES, NO_LIMIT_S, Packets, SshTransport


class Connection:
    """A transport, the reasons that it gave for its end, and the peer's socket."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.settimeout(5)
        self.reasons: list[Exception | None] = []
        self.ended = threading.Event()
        self.transport = SshTransport(ours, self._on_end)

    def _on_end(self, reason: Exception | None) -> None:
        self.reasons.append(reason)
        self.ended.set()

    def start(self) -> None:
        self.transport.start_client(event=threading.Event())
        assert self.peer.recv(8) == b"SSH-2.0-"


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection()
    yield made
    made.transport.hang_up()
    made.peer.close()
    if made.transport.ident is not None:
        made.transport.join(5)
        assert not made.transport.is_alive()


def test_nothing_weak_is_offered(connection: Connection) -> None:
    connection.transport.prefer(host_keys=HOST_KEY_ALGORITHMS, ciphers=CIPHERS)
    offered = connection.transport.get_security_options()
    assert offered.ciphers[:2] == ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
    assert set(offered.ciphers) <= set(CIPHERS)
    assert tuple(offered.key_types) == HOST_KEY_ALGORITHMS
    assert offered.kex
    assert offered.digests
    assert not [name for name in (*offered.kex, *offered.digests) if "sha1" in name or "md5" in name]


def test_the_end_is_told_once_with_its_reason(connection: Connection) -> None:
    connection.start()
    connection.peer.close()
    assert connection.ended.wait(5)
    [reason] = connection.reasons
    assert isinstance(reason, Exception)
    assert not connection.transport.is_active()
    assert connection.transport.has_ended()


def test_hanging_up_ends_the_thread_at_once(connection: Connection) -> None:
    connection.start()
    connection.transport.hang_up()
    assert connection.ended.wait(5)
    connection.transport.hang_up()


def test_hanging_up_before_the_start_closes_the_socket(connection: Connection) -> None:
    connection.transport.hang_up()
    assert connection.peer.recv(1) == b""


def test_a_living_connection_has_not_ended(connection: Connection) -> None:
    connection.start()
    assert not connection.transport.has_ended()
    assert not connection.transport.has_ended_with(paramiko.ChannelException(2, "Connect failed"))
    connection.transport.hang_up()
    assert connection.ended.wait(5)
    assert connection.transport.has_ended_with(EOFError())
    assert connection.transport.has_ended_with(paramiko.ChannelException(2, "Connect failed"))


def test_asking_a_dead_connection_raises_nothing(connection: Connection) -> None:
    connection.transport.ask()


def test_paramiko_keeps_no_record_of_every_channel(connection: Connection) -> None:
    seen = connection.transport.channels_seen
    for chanid in range(100):
        seen[chanid] = True
    assert 99 in seen
    assert 0 in seen
    assert 100 not in seen


def test_paramikos_own_limits_are_out_of_the_way(connection: Connection) -> None:
    transport = connection.transport
    limits = {transport.banner_timeout, transport.handshake_timeout, transport.auth_timeout}
    assert limits | {transport.channel_timeout} == {NO_LIMIT_S}
    before = set(threading.enumerate())
    transport.packetizer.start_handshake(1)
    assert set(threading.enumerate()) <= before, "others may end meanwhile"


def test_an_absurd_packet_is_not_waited_for() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        packets = Packets(ours)
        peer.sendall(b"x" * 10)
        assert packets.read_all(10) == b"x" * 10
        with pytest.raises(paramiko.SSHException, match="bytes is announced"):
            packets.read_all(MAX_READ_BYTES + 1)


def test_a_broken_packet_is_noted() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        packets = Packets(ours)
        peer.close()
        with pytest.raises(EOFError):
            packets.read_message()
        assert isinstance(packets.failure, EOFError)


def test_a_goodbye_is_the_reason(connection: Connection) -> None:
    message = paramiko.Message()
    message.add_int(2)
    message.add_string("Too many authentication failures")
    message.rewind()
    connection.transport._parse_disconnect(message)
    assert str(connection.transport.end_reason) == "Too many authentication failures"
