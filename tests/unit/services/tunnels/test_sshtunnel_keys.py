"""Client keys for paramiko: the same key on both sides, and keys that stay with an agent."""

import asyncio
from typing import Any

import asyncssh
import paramiko
import pytest

from vastproxy.services.tunnels.paramiko_border import host_key_line
from vastproxy.services.tunnels.paramiko_keys import BorrowedKey, client_key

KINDS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"]


def convert(key: asyncssh.SSHKey | asyncssh.SSHKeyPair) -> paramiko.PKey:
    loop = asyncio.new_event_loop()
    try:
        return client_key(key, loop, limit_s=1)
    finally:
        loop.close()


@pytest.mark.parametrize("comment", ["", *("x" * length for length in range(1, 9)), "Schlüssel", "キ" * 5])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_key_may_have_any_comment(kind: str, comment: str) -> None:
    """Whatever length its stored form comes to."""
    key = asyncssh.generate_private_key(kind, comment=comment)
    assert host_key_line(convert(key)).split() == key.export_public_key("openssh").decode().split()[:2]
    assert key.get_comment() == (comment or None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_the_same_on_both_sides(kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    ours = convert(key)
    assert host_key_line(ours) == key.export_public_key("openssh").decode().strip()
    algorithm = "rsa-sha2-512" if kind == "ssh-rsa" else kind
    signature = ours.sign_ssh_data(b"challenge", algorithm)
    assert key.convert_to_public().verify(b"challenge", signature.asbytes())


def test_a_kind_that_paramiko_has_not_says_so() -> None:
    with pytest.raises(ValueError, match="ssh-ed448 cannot be used with paramiko"):
        convert(asyncssh.generate_private_key("ssh-ed448"))


class Held(asyncssh.SSHKeyPair):
    """A key pair as an agent gives it: it signs on the loop, or does not."""

    def __init__(self, key: asyncssh.SSHKey, *, answers: bool = True) -> None:
        algorithm = key.get_algorithm().encode()
        self.key = key
        self.answers = answers
        super().__init__(algorithm, algorithm, key.sig_algorithms, (algorithm,), key.public_data, None)

    async def sign_async(self, data: bytes) -> bytes:
        if not self.answers:
            await asyncio.Event().wait()
        return self.key.sign(data, self.sig_algorithm)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa"])
async def test_an_agents_key_signs_on_the_loop(kind: str) -> None:
    """paramiko asks in a thread, for the algorithm that the server wants."""
    key = asyncssh.generate_private_key(kind)
    ours = client_key(Held(key), asyncio.get_running_loop(), limit_s=5)
    assert isinstance(ours, BorrowedKey)
    assert (ours.get_name(), ours.asbytes(), ours.can_sign()) == (kind, key.public_data, True)
    algorithm = "rsa-sha2-256" if kind == "ssh-rsa" else None
    signature: Any = await asyncio.to_thread(ours.sign_ssh_data, b"challenge", algorithm)
    assert key.convert_to_public().verify(b"challenge", signature.asbytes())
    assert (b"rsa-sha2-256" in signature.asbytes()) == (kind == "ssh-rsa")


async def test_an_agent_that_says_nothing_is_not_waited_for() -> None:
    held = Held(asyncssh.generate_private_key("ssh-ed25519"), answers=False)
    ours = client_key(held, asyncio.get_running_loop(), limit_s=0.05)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(ours.sign_ssh_data, b"challenge")


def test_an_agent_cannot_be_asked_once_the_loop_has_ended() -> None:
    """The thread of a login that outlasts the loop gets an error that paramiko knows, and nothing is left unawaited."""
    loop = asyncio.new_event_loop()
    loop.close()
    ours = client_key(Held(asyncssh.generate_private_key("ssh-ed25519")), loop, limit_s=5)
    with pytest.raises(paramiko.SSHException):
        ours.sign_ssh_data(b"challenge")
