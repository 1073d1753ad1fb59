"""The SSH engine: asyncssh connections, with streams as direct-tcpip channels in this process.

Checked against asyncssh 2.24: its options are all given here, so that neither ~/.ssh/config, an agent,
known_hosts nor a default key of the user has a say.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import asyncssh

from vastproxy.services.tunnels import fastpath
from vastproxy.services.tunnels.base import SshAddress, TunnelTarget
from vastproxy.services.tunnels.border import HostKeyChanged, connect_error, host_key_line, peer
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.pins import Verdict
from vastproxy.services.tunnels.shape import reason_not_to
from vastproxy.services.tunnels.tunnel import AsyncsshTunnel, Ending
from vastproxy.settings.model import TunnelSettings

logger = logging.getLogger(__name__)

#: AES-GCM first: it is done in one call into OpenSSL and costs a third less CPU per streamed token than
#: chacha20-poly1305, which asyncssh and OpenSSH prefer (31 against 45-53 µs, measured with asyncssh 2.24).
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "chacha20-poly1305@openssh.com",
)

#: Plain keys only. Certificates are left out: nobody could tell us which authority to trust.
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


#: What a stream may hold for a reader that has stopped.
WINDOW_BYTES = 512 * 1024


class _Login(asyncssh.SSHClient):
    """What asyncssh asks and tells while one connection is made, and that it has ended."""

    def __init__(self, pins: HostKeyPins, target: TunnelTarget, address: SshAddress, ending: Ending) -> None:
        self._pins = pins
        self._target = target
        self._address = address
        self._ending = ending
        self.host_key = ""
        self.verdict = Verdict.CHANGED

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.host_key = host_key_line(key)
        self.verdict = self._pins.check(self._target.identity, self._address.path, self.host_key)
        return self.verdict is not Verdict.CHANGED

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending.happened(exc)

    def change(self) -> HostKeyChanged | None:
        """The reason for a failure, if it was a host key other than the pinned one."""
        pinned = self._pins.pinned(self._target.identity, self._address.path)
        if self.verdict is Verdict.CHANGED and self.host_key and pinned:
            return HostKeyChanged(pinned, self.host_key)
        return None


class AsyncsshEngine:
    """Makes tunnels with asyncssh. See `TunnelEngine` for the contract."""

    def __init__(
        self,
        settings: TunnelSettings,
        *,
        keys: ClientKeys,
        pins: HostKeyPins,
        username: str = "root",
        window_bytes: int = WINDOW_BYTES,
        fast: bool | None = None,
    ) -> None:
        """`window_bytes` is what a stream may hold for a slow reader. `fast`: go around asyncssh for the data of
        streams (see fastpath); by default where its release is known.
        """
        self._settings = settings
        self._keys = keys
        self._pins = pins
        self._username = username
        self._window_bytes = window_bytes
        self._fast = may_be_fast(reason_not_to()) if fast is None else fast
        self._handshakes = asyncio.Semaphore(settings.max_handshakes)
        quiet = logging.getLogger("asyncssh")
        if quiet.level == logging.NOTSET:  # it reports each channel and each command as INFO
            quiet.setLevel(logging.WARNING)

    async def connect(self, target: TunnelTarget, address: SshAddress) -> AsyncsshTunnel:
        """See `TunnelEngine.connect`. Waiting for other handshakes to end does not count as connect time."""
        limit_s = self._settings.connect_timeout_s
        async with self._handshakes:
            await self._pins.refresh()
            ending = Ending(target, address)
            login = _Login(self._pins, target, address, ending)
            try:
                async with asyncio.timeout(limit_s):
                    return await self._log_in(login, ending, target, address)
            except Exception as exc:  # asyncssh hands on whatever a malformed packet made it raise
                raise connect_error(
                    login.change() or exc, target, address, self._keys, user=self._username, limit_s=limit_s
                ) from exc

    async def close(self) -> None:
        """Nothing is held: tunnels belong to their owners, pins are written when they are made."""

    async def _log_in(
        self, login: _Login, ending: Ending, target: TunnelTarget, address: SshAddress
    ) -> AsyncsshTunnel:
        pinned = self._pins.pinned(target.identity, address.path)
        options = self._options(host_key_algorithms(pinned))
        connect = fastpath.connect if self._fast else stock_connect
        conn = await connect(address.host, address.port, options, lambda: login)
        try:
            if login.verdict is Verdict.NEW:
                login.verdict = await self._pins.trust(target.identity, address.path, login.host_key)
                if login.verdict is Verdict.CHANGED:  # another process was first, and saw another key
                    raise asyncssh.HostKeyNotVerifiable("another key was pinned meanwhile")
                logger.info("%s: host key pinned at first sight", peer(target, address))
            tunnel = AsyncsshTunnel(conn, ending, target, address, window_bytes=self._window_bytes)
            await tunnel.run_first_command()
        except BaseException:
            conn.abort()
            raise
        return tunnel

    def _options(self, algorithms: Sequence[str]) -> asyncssh.SSHClientConnectionOptions:
        return asyncssh.SSHClientConnectionOptions(
            config=None,
            username=self._username,
            client_keys=[key.private for key in self._keys.keys],
            agent_path=None,
            preferred_auth=["publickey"],
            known_hosts=([], [], []),  # trusts nothing, so that every key is shown to the callback
            x509_trusted_certs=None,
            x509_trusted_cert_paths=[],
            server_host_key_algs=list(algorithms),
            encryption_algs=list(CIPHERS),
            compression_algs=None,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            keepalive_interval=self._settings.keepalive_interval_s,
            keepalive_count_max=self._settings.keepalive_count,
            connect_timeout=None,
            login_timeout=0,
        )


def may_be_fast(reason: str | None) -> bool:
    """Whether to go around asyncssh; when there is a reason not to, whoever pays for it should know."""
    if reason is not None:
        logger.warning(
            "%s: streams go through it as it is, at several times the CPU; asyncssh 2.24 is known", reason
        )
    return reason is None


async def stock_connect(
    host: str,
    port: int,
    options: asyncssh.SSHClientConnectionOptions,
    client_factory: Callable[[], asyncssh.SSHClient],
) -> asyncssh.SSHClientConnection:
    """Connect with asyncssh as it is."""
    return await asyncssh.connect(host, port, client_factory=client_factory, options=options)


def host_key_algorithms(pinned: str | None) -> tuple[str, ...]:
    """What to ask for: the pinned key's algorithms first, as another key of the server would be a change."""
    kind = pinned.partition(" ")[0] if pinned else ""
    wanted = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    first = [name for name in HOST_KEY_ALGORITHMS if name in wanted]
    return (*first, *(name for name in HOST_KEY_ALGORITHMS if name not in wanted))
