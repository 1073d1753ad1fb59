"""The border to asyncssh: its exceptions come in, ours go out. No other file translates them.

Texts from the other side (reasons, banners) are cut to one printable line before a person sees them.
"""

import socket

import asyncssh
from asyncssh.constants import OPEN_ADMINISTRATIVELY_PROHIBITED

from vastproxy.services.errors import (
    ChannelRefused,
    KeyRefused,
    KeyUnavailable,
    TunnelError,
    TunnelLost,
    TunnelRefused,
)
from vastproxy.services.tunnels.agent import AgentUnusable
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.liveness import NoSignOfLife

_MAX_REASON = 200
#: How asyncssh ends a connection that did not answer its own questions (asyncssh 2.24).
_OWN_KEEPALIVE = "not responding to keepalive"
#: How both engines begin to say that algorithms do not match (asyncssh 2.24; paramiko 3.5 and 5.1). Other failures of
#: a key exchange come after that, when something in it does not fit what was sent before.
_NOTHING_IN_COMMON = ("No matching", "Unable to find compatible", "Incompatible")


def host_key_line(key: asyncssh.SSHKey) -> str:
    """A host key as it is pinned: "ssh-ed25519 AAAA…", without comment."""
    return " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])


def peer(target: TunnelTarget, address: SshAddress) -> str:
    """Whom an error is about, such as "instance 123 (direct 192.0.2.7:41022)"."""
    return f"instance {target.instance_id} ({address})"


def connect_error(
    exc: BaseException,
    target: TunnelTarget,
    address: SshAddress,
    keys: ClientKeys,
    *,
    user: str,
    limit_s: float,
) -> TunnelError:
    """What it means that connecting failed with `exc`, and what to do about it."""
    who = peer(target, address)
    match exc:
        case AgentUnusable():
            return KeyUnavailable(f"{who} was not shown a key: {exc}")
        case asyncssh.PermissionDenied():
            return KeyRefused(_permission_denied(who, target, address, keys, user=user))
        case asyncssh.HostKeyNotVerifiable():
            return TunnelRefused(f"{who} presented a host key that cannot be used: {_reason(exc)}")
        case asyncssh.KeyExchangeFailed() if not exc.reason.startswith(_NOTHING_IN_COMMON):
            return TunnelLost(
                f"{who}: the key exchange was changed on its way ({_reason(exc)}); no key was accepted from there"
            )
        case asyncssh.KeyExchangeFailed():
            return TunnelRefused(f"{who} and vastproxy have no SSH algorithm in common: {_reason(exc)}")
        case TimeoutError():
            return TunnelLost(f"{who} did not complete an SSH login within {limit_s:g} s")
        case ConnectionRefusedError():
            return TunnelLost(f"{who} refuses connections: sshd is not up yet, or the address has changed")
        case socket.gaierror():
            return TunnelLost(f"{who}: the host name cannot be resolved ({exc.strerror or exc})")
        case asyncssh.ConnectionLost() | ConnectionError():
            return TunnelLost(
                f"{who} closed the connection before the SSH login was complete ({_reason(exc)})"
            )
        case OSError():
            return TunnelLost(f"{who} cannot be reached: {_line(exc.strerror or str(exc))}")
        case _:
            return TunnelLost(f"{who} could not be connected over SSH: {_reason(exc)}")


def lost_error(exc: Exception | None, target: TunnelTarget, address: SshAddress) -> TunnelLost:
    """Why a connection that was up has ended; `None` is an orderly end by the other side."""
    who = peer(target, address)
    if exc is None:
        return TunnelLost(f"{who} ended the SSH connection")
    if isinstance(exc, NoSignOfLife):
        return TunnelLost(f"{who}: {exc}")
    if isinstance(exc, asyncssh.ConnectionLost) and exc.reason.endswith(_OWN_KEEPALIVE):
        return TunnelLost(f"{who}: no sign of life (keepalives unanswered)")
    return TunnelLost(f"{who} lost its SSH connection: {_reason(exc)}")


def closed_error(target: TunnelTarget, address: SshAddress) -> TunnelLost:
    """The tunnel was closed on our side while something still used it."""
    return TunnelLost(f"{peer(target, address)}: the SSH connection was closed by vastproxy")


def channel_error(
    exc: asyncssh.ChannelOpenError, target: TunnelTarget, address: SshAddress, what: str
) -> ChannelRefused:
    """What it means that a living connection does not open a channel for `what`, such as "port 8000"."""
    # RFC 4254 §5.1; OpenSSH answers so when AllowTcpForwarding or PermitOpen forbids the port.
    forbidden = exc.code == OPEN_ADMINISTRATIVELY_PROHIBITED
    hint = "its sshd forbids it (AllowTcpForwarding, PermitOpen)" if forbidden else _reason(exc)
    return ChannelRefused(f"{peer(target, address)} does not open {what}: {hint}")


def _permission_denied(
    who: str, target: TunnelTarget, address: SshAddress, keys: ClientKeys, *, user: str
) -> str:
    login = "" if user == "root" else f" for user {user}"
    if address.path is Path.RELAY:
        # Per-instance keys may work on the direct path only (vast.ai base images, 2026-08).
        return (
            f"{who} does not accept the key {keys}{login}; the relay knows account keys: add its public "
            f"half at https://console.vast.ai/manage-keys/ or attach it with: {keys.attach_hint(target)}"
        )
    return f"{who} does not accept the key {keys}{login}; attach it with: {keys.attach_hint(target)}"


def _reason(exc: BaseException) -> str:
    text = exc.reason if isinstance(exc, asyncssh.Error) else str(exc)
    return _line(text) or type(exc).__name__


def _line(text: str) -> str:
    """One printable line of bounded length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * _MAX_REASON]).split())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
