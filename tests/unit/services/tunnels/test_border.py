"""What a person reads when SSH fails, and which of our errors it is."""

import errno
import pathlib
import socket

import asyncssh
import pytest
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED, OPEN_CONNECT_FAILED
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.errors import ChannelRefused, TunnelError, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.agent import AgentUnusable
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.border import (
    channel_error,
    closed_error,
    connect_error,
    lost_error,
)
from vastproxy.services.tunnels.keys import ClientKey, ClientKeys
from vastproxy.services.tunnels.liveness import NoSignOfLife

DIRECT = SshAddress("192.0.2.7", 41022, Path.DIRECT)
RELAY = SshAddress("ssh5.vast.ai", 11022, Path.RELAY)
TARGET = TunnelTarget(123, "123@1", (DIRECT, RELAY))
PRIVATE = asyncssh.generate_private_key("ssh-ed25519")
KEYS = ClientKeys((ClientKey(pathlib.Path("/k"), "~/.ssh/id_ed25519", "SHA256:x", "ssh-ed25519 A", PRIVATE),))


def explain(exc: BaseException, address: SshAddress = DIRECT, user: str = "root") -> TunnelError:
    return connect_error(exc, TARGET, address, KEYS, user=user, limit_s=10)


def test_a_refused_key_names_the_key_and_the_command_that_attaches_it() -> None:
    error = explain(asyncssh.PermissionDenied("Permission denied for user root on host 192.0.2.7"))
    assert isinstance(error, TunnelRefused)
    assert str(error) == (
        "instance 123 (direct 192.0.2.7:41022) does not accept the key ~/.ssh/id_ed25519; "
        'attach it with: vastai attach ssh 123 "$(ssh-keygen -y -f ~/.ssh/id_ed25519)"'
    )
    assert "for user ubuntu" in str(explain(asyncssh.PermissionDenied("no"), user="ubuntu"))


def test_at_the_relay_a_refused_key_may_be_missing_in_the_account() -> None:
    text = str(explain(asyncssh.PermissionDenied("no"), RELAY))
    assert text.startswith("instance 123 (relay ssh5.vast.ai:11022) does not accept the key")
    assert "https://console.vast.ai/manage-keys/" in text


def test_an_agent_that_gave_no_key_is_named() -> None:
    error = explain(AgentUnusable("the ssh-agent at /agent refuses to sign"))
    assert isinstance(error, TunnelRefused)
    assert str(error) == (
        "instance 123 (direct 192.0.2.7:41022) was not shown a key: the ssh-agent at /agent refuses to sign"
    )


@pytest.mark.parametrize(
    ("exc", "kind", "part"),
    [
        (TimeoutError(), TunnelLost, "did not complete an SSH login within 10 s"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), TunnelLost, "refuses connections"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), TunnelLost, "closed the connection before"),
        (asyncssh.ConnectionLost("Connection lost"), TunnelLost, "closed the connection before"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), TunnelLost, "cannot be reached: No route to host"),
        (socket.gaierror(-2, "Name or service not known"), TunnelLost, "cannot be resolved (Name or"),
        (asyncssh.ProtocolError("Bad packet"), TunnelLost, "could not be connected over SSH: Bad packet"),
        (asyncssh.KeyExchangeFailed("No matching"), TunnelRefused, "no SSH algorithm in common: No matching"),
        (
            asyncssh.KeyExchangeFailed("Incompatible ssh peer (no acceptable kex algorithm)"),
            TunnelRefused,
            "common",
        ),
        (asyncssh.KeyExchangeFailed("Incompatible version (1.9 instead of 2.0)"), TunnelRefused, "in common"),
        (
            asyncssh.KeyExchangeFailed("Key exchange hash mismatch"),
            TunnelLost,
            "the key exchange was changed on its way (Key exchange hash mismatch)",
        ),
        (asyncssh.HostKeyNotVerifiable("odd"), TunnelRefused, "host key that cannot be used: odd"),
        (ValueError("weird"), TunnelLost, "could not be connected over SSH: weird"),
        (IndexError(), TunnelLost, "could not be connected over SSH: IndexError"),
    ],
)
def test_each_failure_of_connecting_is_one_line_about_the_instance(
    exc: Exception, kind: type[TunnelError], part: str
) -> None:
    error = explain(exc)
    assert type(error) is kind
    assert str(error).startswith("instance 123 (direct 192.0.2.7:41022)")
    assert part in str(error)


@given(st.text(max_size=2000))
def test_texts_of_the_other_side_stay_one_bounded_printable_line(text: str) -> None:
    for error in (
        explain(asyncssh.ProtocolError(text)),
        lost_error(asyncssh.ConnectionLost(text), TARGET, DIRECT),
    ):
        assert str(error).isprintable()
        assert len(str(error)) < 400


def test_why_a_connection_ended() -> None:
    assert str(lost_error(None, TARGET, DIRECT)).endswith("ended the SSH connection")
    assert str(lost_error(asyncssh.ConnectionLost("Server not responding to keepalive"), TARGET, DIRECT)) == (
        "instance 123 (direct 192.0.2.7:41022): no sign of life (keepalives unanswered)"
    )
    assert str(lost_error(NoSignOfLife(11.2), TARGET, DIRECT)) == (
        "instance 123 (direct 192.0.2.7:41022): no sign of life for 11 s (keepalives unanswered)"
    )
    assert "closed by vastproxy" in str(closed_error(TARGET, DIRECT))


def test_why_a_channel_was_not_opened() -> None:
    closed = channel_error(
        asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "Connection refused"), TARGET, DIRECT, "port 8000"
    )
    assert isinstance(closed, ChannelRefused)
    assert str(closed).endswith("does not open port 8000: Connection refused")
    forbidden = channel_error(
        asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed"), TARGET, DIRECT, "port 80"
    )
    assert "AllowTcpForwarding" in str(forbidden)
