"""What paramiko raises and answers, in the words of the border."""

from typing import Any, cast

import asyncssh
import paramiko
import pytest
from paramiko.ssh_exception import IncompatiblePeer

from tests.helpers.tunnelling import direct, target_for
from vastproxy.services.tunnels.asyncssh_engine import HOST_KEY_ALGORITHMS
from vastproxy.services.tunnels.paramiko_border import as_known, log_in, open_error
from vastproxy.services.tunnels.paramiko_transport import SshTransport
from vastproxy.services.tunnels.sshtunnel_engine import host_key_order


class PlayedTransport:
    """Answers each key with what the test wants."""

    def __init__(self, *answers: Any, end_reason: Exception | None = None) -> None:
        self.answers = list(answers)
        self.end_reason = end_reason
        self.alive = True

    def is_active(self) -> bool:
        return self.alive

    def auth_publickey(self, username: str, key: object) -> list[str]:
        answer = self.answers.pop(0)
        if answer == "hang up":
            self.alive = False
            raise paramiko.AuthenticationException("Authentication failed: transport shut down or saw EOF")
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def attempt(*answers: Any, end_reason: Exception | None = None) -> PlayedTransport:
    played = PlayedTransport(*answers, end_reason=end_reason)
    keys = [cast(paramiko.PKey, object()) for _ in answers]
    log_in(cast(SshTransport, played), "root", keys)
    return played


NO = paramiko.AuthenticationException("Authentication failed.")


def test_the_first_key_that_is_accepted_ends_the_search() -> None:
    assert attempt(NO, [], NO).answers == [NO]


@pytest.mark.parametrize(
    "answers",
    [
        (NO,),
        (NO, paramiko.BadAuthenticationType("no", ["password"])),
        (["keyboard-interactive"],),
        (NO, "hang up"),
    ],
)
def test_keys_that_are_not_accepted_are_a_denied_permission(answers: tuple[Any, ...]) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        attempt(*answers)


def test_no_key_at_all_is_a_denied_permission() -> None:
    with pytest.raises(asyncssh.PermissionDenied, match="no key"):
        attempt()


def test_a_connection_that_ends_before_the_first_answer_is_a_loss() -> None:
    with pytest.raises(ConnectionResetError):
        attempt("hang up")
    with pytest.raises(ConnectionAbortedError, match="too many"):
        attempt("hang up", end_reason=ConnectionAbortedError("too many"))


def greeting_lost() -> paramiko.SSHException:
    try:
        try:
            raise EOFError
        except EOFError:
            raise paramiko.SSHException("Error reading SSH protocol banner")  # noqa: B904 - as paramiko does
    except paramiko.SSHException as exc:
        return exc


def test_failures_while_connecting_become_known_kinds() -> None:
    lost = cast(SshTransport, PlayedTransport(end_reason=ConnectionResetError("Connection lost")))
    odd = cast(SshTransport, PlayedTransport(end_reason=paramiko.SSHException("Mismatched MAC")))
    negotiation = paramiko.SSHException("Negotiation failed.")
    assert isinstance(as_known(IncompatiblePeer("no kex"), lost), asyncssh.KeyExchangeFailed)
    assert isinstance(as_known(EOFError(), lost), ConnectionResetError)
    assert isinstance(as_known(greeting_lost(), None), ConnectionResetError)
    assert isinstance(as_known(negotiation, lost), ConnectionResetError)
    assert as_known(negotiation, odd) is negotiation
    assert as_known(negotiation, None) is negotiation
    refused = ConnectionRefusedError()
    assert as_known(refused, None) is refused


def test_a_refused_channel_names_the_port_and_the_reason() -> None:
    target, address = target_for(), direct(22)
    forbidden = open_error(
        paramiko.ChannelException(1, "Administratively prohibited"), target, address, "port 80"
    )
    assert str(forbidden) == (
        "instance 7 (direct 127.0.0.1:22) does not open port 80: its sshd forbids it (AllowTcpForwarding, PermitOpen)"
    )
    closed = open_error(paramiko.ChannelException(2, "Connect failed"), target, address, "port 80")
    assert str(closed).endswith("does not open port 80: Connect failed")
    unsaid = open_error(EOFError(), target, address, "port 80")
    assert str(unsaid).endswith("does not open port 80: EOFError")


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        ((), ("ssh-ed25519", "ecdsa-sha2-nistp256")),
        (("ecdsa-sha2-nistp384",), ("ecdsa-sha2-nistp384", "ssh-ed25519")),
        (("ssh-rsa",), ("rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519")),
        (("unknown",), ("ssh-ed25519",)),
    ],
)
def test_the_kinds_that_are_known_come_first_and_nothing_is_left_out(
    kinds: tuple[str, ...], first: tuple[str, ...]
) -> None:
    order = host_key_order(kinds)
    assert order[: len(first)] == first
    assert sorted(order) == sorted(HOST_KEY_ALGORITHMS)
