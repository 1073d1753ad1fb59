"""Keys held by an ssh-agent: which there are, and how a login borrows them.

The agent signs, the private keys never come here. Its protocol is draft-ietf-sshm-ssh-agent; checked against
OpenSSH's ssh-agent 9.2 and asyncssh 2.24.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

from vastproxy.services.errors import ServiceError
from vastproxy.services.tunnels.publickey import PublicKey, parse_blob, printable, read_strings

#: How long an agent may take to list its keys. One in this machine takes a millisecond, a forwarded one a round trip.
LIST_LIMIT_S = 3.0
#: How long it may take to sign, as a person may have to confirm it: less than a login may take as a whole, so that the
#: reason is known when it fails.
SIGN_LIMIT_S = 8.0
#: Longest answer that OpenSSH's agent sends (AGENT_MAX_LEN).
MAX_ANSWER_BYTES = 256 * 1024

_REQUEST_IDENTITIES = struct.pack(">IB", 1, 11)
_FAILURE, _IDENTITIES = 5, 12


class AgentUnusable(ServiceError):
    """The ssh-agent cannot be reached, or does not answer as one."""

    transient = True


@dataclass(frozen=True, slots=True)
class AgentKey:
    """One key that an agent holds."""

    public: PublicKey
    comment: str


def list_keys(socket_path: Path, *, limit_s: float = LIST_LIMIT_S) -> tuple[AgentKey, ...]:
    """The keys that the agent at this socket holds, in its order; none where it is locked.

    Blocking, at most `limit_s`. Raises AgentUnusable, one line that says why.
    """
    deadline = time.monotonic() + limit_s
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(limit_s)
            sock.connect(str(socket_path))
            sock.sendall(_REQUEST_IDENTITIES)
            length = int.from_bytes(_receive(sock, 4, deadline), "big")
            if not 0 < length <= MAX_ANSWER_BYTES:
                raise AgentUnusable(f"what answers at {socket_path} is not an ssh-agent")
            answer = _receive(sock, length, deadline)
    except TimeoutError:
        raise AgentUnusable(f"the ssh-agent at {socket_path} does not answer within {limit_s:g} s") from None
    except OSError as exc:
        reason = exc.strerror or printable(str(exc))
        raise AgentUnusable(f"the ssh-agent at {socket_path} cannot be reached: {reason}") from None
    return keys_in(answer, socket_path)


class AgentSession:
    """The keys of an agent for one login: a context manager that holds a connection to it.

    `trouble` says afterwards whether it was the agent on which a login failed.
    """

    def __init__(
        self,
        socket_path: Path,
        wanted: Collection[PublicKey],
        *,
        list_limit_s: float = LIST_LIMIT_S,
        sign_limit_s: float = SIGN_LIMIT_S,
    ) -> None:
        """Offer those of the `wanted` keys that the agent holds now, in the order of `wanted`."""
        self._socket_path = socket_path
        self._wanted = tuple(wanted)
        self._list_limit_s = list_limit_s
        self._client = _Client(str(socket_path), sign_limit_s)
        self.keys: Sequence[asyncssh.SSHKeyPair] = ()

    async def __aenter__(self) -> Self:
        """Raises AgentUnusable when the agent is gone or silent, or holds none of the keys any more."""
        limit = asyncio.timeout(self._list_limit_s)
        try:
            blobs = [key.blob for key in self._wanted]
            async with limit:
                held = {pair.key_public_data: pair for pair in await self._client.get_keys(blobs)}
        except (OSError, ValueError) as exc:
            await self._end()
            why = (
                f"within {self._list_limit_s:g} s"
                if limit.expired()
                else f"({printable(str(exc)) or 'ended'})"
            )
            raise AgentUnusable(
                f"the ssh-agent at {self._socket_path} does not answer {why}; "
                "start it again and add the key with ssh-add"
            ) from None
        except BaseException:
            await self._end()
            raise
        self.keys = [held[blob] for blob in blobs if blob in held]
        if not self.keys:
            await self._end()
            names = " or ".join(map(str, self._wanted))
            raise AgentUnusable(
                f"the ssh-agent at {self._socket_path} holds {names} no more; "
                "add it again with ssh-add, or unlock the agent"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    @property
    def trouble(self) -> str | None:
        """What the agent did not do when it was asked to sign, None when it did all it was asked."""
        who = f"the ssh-agent at {self._socket_path}"
        if self._client.refused:
            return (
                f"{who} refuses to sign with {self._client.refused}: "
                "confirm the use, or unlock the agent with ssh-add -X"
            )
        if self._client.signing:
            return (
                f"{who} had not signed with {self._client.signing} yet: perhaps it waits for a confirmation"
            )
        return None

    async def _end(self) -> None:
        self._client.close()
        await self._client.wait_closed()


class _Client(asyncssh.SSHAgentClient):
    """asyncssh takes a refused signature for a key that the server does not know; this keeps the difference."""

    def __init__(self, agent_path: str, sign_limit_s: float) -> None:
        super().__init__(agent_path)
        self._sign_limit_s = sign_limit_s
        #: The fingerprints of the key that it refused to sign with, and of the one it is asked about.
        self.refused = ""
        self.signing = ""

    async def sign(self, key_blob: bytes, data: bytes, flags: int = 0) -> bytes:
        shown = str(parse_blob(key_blob))
        self.signing = shown
        try:
            async with asyncio.timeout(self._sign_limit_s):
                signature = await super().sign(key_blob, data, flags)
        except TimeoutError:
            self.close()  # an answer that still comes must not be taken for that to another question
            await self.wait_closed()
            raise ValueError("it has not signed in time") from None
        except ValueError:
            self.refused, self.signing = shown, ""
            raise
        self.refused = self.signing = ""
        return signature


def _receive(sock: socket.socket, count: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        sock.settimeout(left_s)
        part = sock.recv(count - len(received))
        if not part:
            raise ConnectionResetError("it closed the connection")
        received += part
    return bytes(received)


def keys_in(answer: bytes, socket_path: Path) -> tuple[AgentKey, ...]:
    """The keys in an agent's answer, which has at least its type. Raises AgentUnusable for any other answer."""
    if answer[0] == _FAILURE:
        raise AgentUnusable(f"the ssh-agent at {socket_path} refuses to list its keys")
    if answer[0] != _IDENTITIES or len(answer) < 5:
        raise AgentUnusable(f"what answers at {socket_path} is not an ssh-agent")
    count = int.from_bytes(answer[1:5], "big")
    try:
        strings = read_strings(answer[5:], 2 * count if count <= MAX_ANSWER_BYTES // 8 else MAX_ANSWER_BYTES)
    except ValueError:
        raise AgentUnusable(f"what answers at {socket_path} is not an ssh-agent") from None
    found = []
    for blob, comment in zip(strings[::2], strings[1::2], strict=True):
        try:
            key = parse_blob(blob)
        except ValueError:  # a kind of key that only the agent understands
            continue
        found.append(AgentKey(key, printable(comment.decode(errors="replace"))))
    return tuple(found)
