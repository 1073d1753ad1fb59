"""Logins to a real sshd in which keys and host keys are decided as for a tunnel."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path as FilePath

import asyncssh

from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import direct, target_for
from vastproxy.services.tunnels.base import SshAddress
from vastproxy.services.tunnels.hostcheck import HostKeyCheck, HostKeyRules, PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keyaccess import KeyAccess
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.services.tunnels.publickey import parse_blob
from vastproxy.settings.model import TunnelSettings


class _Login(asyncssh.SSHClient):
    def __init__(self, check: HostKeyCheck) -> None:
        self._check = check

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._check.accepts(parse_blob(key.public_data).line)


@contextlib.asynccontextmanager
async def logged_in(
    sshd: Sshd, keys: ClientKeys, rules: HostKeyRules, address: SshAddress
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A login with asyncssh in which keys and host keys are decided as for a tunnel."""
    check = await rules.begin(target_for(address), address)
    async with keys.offer() as offer:
        try:
            connection = await asyncssh.connect(
                address.host,
                address.port,
                config=None,
                username=sshd.username,
                client_factory=lambda: _Login(check),
                client_keys=list(offer.keys),
                agent_path=None,
                preferred_auth=["publickey"],
                known_hosts=([], [], []),
                server_host_key_algs=list(check.kinds) or "default",
            )
        except asyncssh.PermissionDenied:
            raise PermissionError(offer.trouble or "denied") from None
        except asyncssh.HostKeyNotVerifiable:
            refusal = await check.refusal()
            assert refusal is not None
            raise refusal from None
    async with connection:
        await check.confirm()
        yield connection


async def answers(
    sshd: Sshd, keys: ClientKeys, rules: HostKeyRules | None = None, *, address: SshAddress | None = None
) -> str:
    """What a command prints after a login."""
    rules = PinnedHostKeys(HostKeyPins(None)) if rules is None else rules
    async with asyncio.timeout(20), logged_in(sshd, keys, rules, address or direct(sshd.port)) as connection:
        return str((await connection.run("echo in", check=True)).stdout).strip()


def keys_of(path: FilePath | None, home: FilePath | None = None, **access: object) -> ClientKeys:
    settings = TunnelSettings(key_path=None if path is None else str(path))
    return load_client_keys(settings, home=home, access=KeyAccess(**access))  # type: ignore[arg-type]
