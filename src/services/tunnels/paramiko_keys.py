"""Client keys as paramiko has them: read from memory, or left with the agent that holds them.

Checked against paramiko 3.5 and 5.1, asyncssh 2.24.
"""

import asyncio
import io
from typing import Any

import asyncssh
import paramiko

_KEY_CLASSES: tuple[tuple[str, type[paramiko.PKey]], ...] = (
    ("ssh-ed25519", paramiko.Ed25519Key),
    ("ecdsa-sha2-", paramiko.ECDSAKey),
    ("ssh-rsa", paramiko.RSAKey),
)

#: paramiko 3.5 finds the end of a stored key by its last byte: a letter is the end of the comment, anything else a
#: count of padding. Without a comment, or with one in other letters than ASCII, it cuts off what it must not.
_COMMENT = "vastproxy"


def client_key(
    key: asyncssh.SSHKey | asyncssh.SSHKeyPair, loop: asyncio.AbstractEventLoop, *, limit_s: float
) -> paramiko.PKey:
    """A client key for paramiko; a private half passes through memory only.

    `loop` and `limit_s` are for a key of an agent: where it is asked to sign, and for how long at most.
    Raises ValueError for a kind of key that paramiko does not have.
    """
    if isinstance(key, asyncssh.SSHKeyPair):
        return BorrowedKey(key, loop, limit_s=limit_s)
    algorithm = key.get_algorithm()
    for prefix, kind in _KEY_CLASSES:
        if algorithm.startswith(prefix):
            copy = asyncssh.import_private_key(key.export_private_key("pkcs8-der"))
            copy.set_comment(_COMMENT)
            return kind.from_private_key(io.StringIO(copy.export_private_key("openssh").decode("ascii")))
    raise ValueError(f"a key of type {algorithm} cannot be used with paramiko")


class BorrowedKey(paramiko.PKey):
    """A key whose private half an agent has. paramiko asks it to sign in a thread, the agent is asked on the loop."""

    #: It comes without a certificate.
    public_blob = None

    def __init__(self, pair: asyncssh.SSHKeyPair, loop: asyncio.AbstractEventLoop, *, limit_s: float) -> None:
        self._pair: Any = pair  # asyncssh's base class does not name what only an agent's key has
        self._loop = loop
        self._limit_s = limit_s

    def get_name(self) -> str:
        return str(self._pair.get_algorithm())

    def asbytes(self) -> bytes:
        return bytes(self._pair.public_data)

    def can_sign(self) -> bool:
        return True

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Any:
        """The signature of the agent. Raises what it says instead, TimeoutError when it says nothing."""
        if algorithm is not None:
            self._pair.set_sig_algorithm(algorithm.encode("ascii"))
        if self._loop.is_closed():
            raise paramiko.SSHException("nobody can ask the agent any more")
        signing = asyncio.run_coroutine_threadsafe(self._pair.sign_async(data), self._loop)
        try:
            return paramiko.Message(signing.result(self._limit_s))
        finally:
            signing.cancel()
