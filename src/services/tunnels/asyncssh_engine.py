"""The SSH engine: asyncssh connections, with streams as direct-tcpip channels in this process.

Checked against asyncssh 2.24: its options are all given here, so that neither ~/.ssh/config, an agent,
known_hosts nor a default key of the user has a say.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

import asyncssh

from vastproxy.services.errors import TunnelError
from vastproxy.services.tunnels import fastpath
from vastproxy.services.tunnels.agent import AgentUnusable
from vastproxy.services.tunnels.base import SshAddress, TunnelTarget
from vastproxy.services.tunnels.border import connect_error, host_key_line
from vastproxy.services.tunnels.hostcheck import HostKeyCheck, HostKeyRules
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.shape import reason_not_to
from vastproxy.services.tunnels.sweeper import Sweeper
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

    def __init__(self, check: HostKeyCheck, ending: Ending) -> None:
        self._check = check
        self._ending = ending

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self._check.accepts(host_key_line(key))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending.happened(exc)


class AsyncsshEngine:
    """Makes tunnels with asyncssh. See `TunnelEngine` for the contract."""

    def __init__(
        self,
        settings: TunnelSettings,
        *,
        keys: ClientKeys,
        host_keys: HostKeyRules,
        username: str = "root",
        window_bytes: int = WINDOW_BYTES,
        fast: bool | None = None,
        known: bool | None = None,
    ) -> None:
        """`window_bytes` is what a stream may hold for a slow reader. `fast`: go around asyncssh for the data of
        streams (see fastpath); by default where it is `known`, which is by default found out. Where it is not, it
        asks for signs of life itself, and no tunnel is ever doubted.
        """
        self._settings = settings
        self._keys = keys
        self.host_keys = host_keys
        """Which host keys are accepted."""
        self._username = username
        self._window_bytes = window_bytes
        self._is_known = reason_not_to() is None if known is None else known
        self._fast = may_be_fast(reason_not_to()) if fast is None else fast
        self._sweeper = Sweeper(settings.keepalive_interval_s, settings.keepalive_count)
        self._handshakes = asyncio.Semaphore(settings.max_handshakes)
        quiet = logging.getLogger("asyncssh")
        if quiet.level == logging.NOTSET:  # it reports each channel and each command as INFO
            quiet.setLevel(logging.WARNING)

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> AsyncsshTunnel:
        """See `TunnelEngine.connect`. Waiting for other handshakes to end does not count as connect time."""
        limit_s = self._settings.connect_timeout_s
        async with self._handshakes:
            if begun is not None:
                begun()
            check = await self.host_keys.begin(target, address)
            ending = Ending(target, address)
            try:
                async with asyncio.timeout(limit_s):
                    return await self._log_in(check, ending, target, address)
            except TunnelError:
                raise
            except Exception as exc:  # asyncssh hands on whatever a malformed packet made it raise
                raise await check.refusal() or connect_error(
                    exc, target, address, self._keys, user=self._username, limit_s=limit_s
                ) from exc

    async def recycled(self, identity: str) -> None:
        """See `TunnelEngine.recycled`."""
        await self.host_keys.recycled(identity)

    async def close(self) -> None:
        """Stop asking for signs of life. Tunnels belong to their owners, pins are written when they are made."""
        await self._sweeper.aclose()

    async def _log_in(
        self, check: HostKeyCheck, ending: Ending, target: TunnelTarget, address: SshAddress
    ) -> AsyncsshTunnel:
        conn = await self._authenticated(check, ending, address)
        try:
            await check.confirm()
            tunnel = AsyncsshTunnel(conn, ending, target, address, window_bytes=self._window_bytes)
            await tunnel.run_first_command()
        except BaseException:
            conn.abort()
            raise
        tunnel.pulse.allow_s(self._sweeper.rules.unacknowledged_s)
        if self._is_known:
            self._sweeper.add(tunnel.pulse, tunnel.lost)
        return tunnel

    async def _authenticated(
        self, check: HostKeyCheck, ending: Ending, address: SshAddress
    ) -> asyncssh.SSHClientConnection:
        connect = fastpath.connect if self._fast else stock_connect
        async with self._keys.offer() as offer:
            options = self._options(offer.keys, host_key_algorithms(check.kinds))
            try:
                return await connect(address.host, address.port, options, lambda: _Login(check, ending))
            except asyncssh.PermissionDenied as exc:
                if offer.trouble:
                    raise AgentUnusable(offer.trouble) from exc
                raise

    def _options(
        self, keys: "Sequence[asyncssh.SSHKey | asyncssh.SSHKeyPair]", algorithms: Sequence[str]
    ) -> asyncssh.SSHClientConnectionOptions:
        return asyncssh.SSHClientConnectionOptions(
            config=None,
            username=self._username,
            client_keys=list(keys),
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
            keepalive_interval=0 if self._is_known else self._settings.keepalive_interval_s,
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


def host_key_algorithms(kinds: Sequence[str]) -> tuple[str, ...]:
    """What to ask for: the algorithms of these kinds of key first, as another key of the server would be a change."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in kinds else set()
    wanted.update(kinds)
    return tuple(sorted(HOST_KEY_ALGORITHMS, key=lambda name: name not in wanted))
