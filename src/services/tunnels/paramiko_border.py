"""The border to paramiko: logging in with it, and its exceptions, which become what `border` explains to people.

Checked against paramiko 3.5 and 5.1.
"""

from collections.abc import Iterable

import asyncssh
import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from vastproxy.services.errors import ChannelRefused
from vastproxy.services.tunnels.base import SshAddress, TunnelTarget
from vastproxy.services.tunnels.border import channel_error
from vastproxy.services.tunnels.paramiko_transport import SshTransport


def host_key_line(key: paramiko.PKey) -> str:
    """A host key as it is pinned: "ssh-ed25519 AAAA…", without comment; the same line for both engines."""
    return f"{key.get_name()} {key.get_base64()}"


def log_in(transport: SshTransport, username: str, keys: Iterable[paramiko.PKey]) -> None:
    """Offer the keys, one after the other. Blocking.

    Raises asyncssh.PermissionDenied when none is accepted, and what ended the connection otherwise.
    """
    rejected = ""
    for key in keys:
        try:
            if not transport.auth_publickey(username, key):
                return
            rejected = "another login step is asked for beside the key"
        except paramiko.AuthenticationException as exc:
            if not transport.is_active():
                # sshd hangs up after MaxAuthTries keys; before the first answer it is a loss like any other.
                if rejected:
                    break
                raise transport.end_reason or ConnectionResetError("Connection lost") from exc
            rejected = str(exc)
    raise asyncssh.PermissionDenied(rejected or "no key was offered")


def as_known(exc: BaseException, transport: SshTransport | None) -> BaseException:
    """A failure while connecting, as one of the kinds that `border.connect_error` tells apart."""
    match exc:
        case IncompatiblePeer():
            return asyncssh.KeyExchangeFailed(str(exc))
        case EOFError():
            return ConnectionResetError("Connection lost")
        case paramiko.SSHException() if isinstance(exc.__context__, EOFError):  # in place of a greeting
            return ConnectionResetError("Connection lost")
        case paramiko.SSHException():
            reason = transport.end_reason if transport is not None else None
            return reason if isinstance(reason, OSError) else exc
        case _:
            return exc


def open_error(exc: BaseException, target: TunnelTarget, address: SshAddress, what: str) -> ChannelRefused:
    """What it means that a living connection does not open a channel for `what`, such as "port 8000"."""
    code, reason = 0, str(exc) or type(exc).__name__
    if isinstance(exc, paramiko.ChannelException):
        code, reason = exc.code, exc.text
    return channel_error(asyncssh.ChannelOpenError(code, reason), target, address, what)
