"""The second SSH engine: paramiko's connections, with sshtunnel's forwarders for the streams.

paramiko is told everything here: by itself it reads neither ~/.ssh, nor an agent, nor known_hosts. Checked against
paramiko 3.5 and 5.1 with sshtunnel 0.5.
"""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Sequence

from vastproxy.services.errors import TunnelError
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels import tcp
from vastproxy.services.tunnels.agent import AgentUnusable
from vastproxy.services.tunnels.asyncssh_engine import CIPHERS, HOST_KEY_ALGORITHMS, WINDOW_BYTES
from vastproxy.services.tunnels.base import SshAddress, TunnelTarget
from vastproxy.services.tunnels.border import connect_error
from vastproxy.services.tunnels.hostcheck import HostKeyCheck, HostKeyRules
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.paramiko_border import as_known, host_key_line, log_in
from vastproxy.services.tunnels.paramiko_command import run_first_command
from vastproxy.services.tunnels.paramiko_keys import client_key
from vastproxy.services.tunnels.paramiko_slots import Slots
from vastproxy.services.tunnels.paramiko_transport import SshTransport
from vastproxy.services.tunnels.paramiko_tunnel import ParamikoTunnel, ToldEnding
from vastproxy.services.tunnels.sweeper import Sweeper
from vastproxy.settings.model import TunnelSettings


class SshtunnelEngine:
    """Makes tunnels with paramiko and sshtunnel. See `TunnelEngine` for the contract."""

    def __init__(
        self,
        settings: TunnelSettings,
        *,
        keys: ClientKeys,
        host_keys: HostKeyRules,
        username: str = "root",
        window_bytes: int = WINDOW_BYTES,
        slots: Slots | None = None,
    ) -> None:
        """`window_bytes` is what a channel may hold for a slow reader, beside the buffers of a local connection.
        `slots` bounds the streams of all tunnels together; by default MAX_STREAMS.
        """
        self._settings = settings
        self._keys = keys
        self.host_keys = host_keys
        """Which host keys are accepted."""
        self._username = username
        self._window_bytes = window_bytes
        #: How many streams there are, and how many were refused for want of room.
        self.slots = Slots() if slots is None else slots
        self._sweeper = Sweeper(settings.keepalive_interval_s, settings.keepalive_count)
        self._handshakes = asyncio.Semaphore(settings.max_handshakes)
        for name in ("paramiko", "sshtunnel"):
            library = logging.getLogger(name)
            if (
                library.level == logging.NOTSET
            ):  # they report each refused port and each lost peer with a traceback
                library.setLevel(logging.CRITICAL)

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> ParamikoTunnel:
        """See `TunnelEngine.connect`. Waiting for other handshakes to end does not count as connect time."""
        limit_s = self._settings.connect_timeout_s
        async with self._handshakes:
            if begun is not None:
                begun()
            check = await self.host_keys.begin(target, address)
            ending = ToldEnding(target, address)
            login = _Login(ending)
            try:
                async with asyncio.timeout(limit_s):
                    return await self._log_in(login, check, ending, target, address)
            except TunnelError:
                raise
            except Exception as exc:  # paramiko hands on whatever a malformed packet made it raise
                raise await check.refusal() or connect_error(
                    as_known(exc, login.transport),
                    target,
                    address,
                    self._keys,
                    user=self._username,
                    limit_s=limit_s,
                ) from exc

    async def recycled(self, identity: str) -> None:
        """See `TunnelEngine.recycled`."""
        await self.host_keys.recycled(identity)

    async def close(self) -> None:
        """Stop asking for signs of life. Tunnels belong to their owners, pins are written when they are made."""
        await self._sweeper.aclose()

    async def _log_in(
        self,
        login: "_Login",
        check: HostKeyCheck,
        ending: ToldEnding,
        target: TunnelTarget,
        address: SshAddress,
    ) -> ParamikoTunnel:
        transport = login.begin(await connected_socket(address.host, address.port))
        try:
            transport.prefer(host_keys=host_key_order(check.kinds), ciphers=CIPHERS)
            await in_thread(transport.start_client, name="ssh handshake")
            if not check.accepts(host_key_line(transport.get_remote_server_key())):
                raise HostKeyNotAccepted
            await self._authenticate(transport)
            await check.confirm()
            await in_thread(functools.partial(run_first_command, transport), name="ssh first command")
        except BaseException:
            transport.hang_up()
            raise
        tunnel = ParamikoTunnel(
            transport,
            ending,
            target,
            address,
            slots=self.slots,
            username=self._username,
            window_bytes=self._window_bytes,
        )
        tcp.give_up_after(transport.link, self._sweeper.rules.unacknowledged_s)
        self._sweeper.add(tunnel.pulse, tunnel.lost)
        return tunnel

    async def _authenticate(self, transport: SshTransport) -> None:
        loop, limit_s = asyncio.get_running_loop(), self._settings.connect_timeout_s
        async with self._keys.offer() as offer:
            keys = [client_key(key, loop, limit_s=limit_s) for key in offer.keys]
            try:
                await in_thread(functools.partial(log_in, transport, self._username, keys), name="ssh login")
            except Exception as exc:
                if offer.trouble:
                    raise AgentUnusable(offer.trouble) from exc
                raise


class HostKeyNotAccepted(Exception):
    """The check knows why."""


class _Login:
    """One connection while it is made; tells the loop of its end, whenever that comes."""

    def __init__(self, ending: ToldEnding) -> None:
        self._ending = ending
        self._loop = asyncio.get_running_loop()
        self.transport: SshTransport | None = None

    def begin(self, sock: socket.socket) -> SshTransport:
        self.transport = SshTransport(sock, self._ended)
        return self.transport

    def _ended(self, reason: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            self._loop.call_soon_threadsafe(self._ending.happened, reason)


async def connected_socket(host: str, port: int) -> socket.socket:
    """A TCP connection to the first address of `host` that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, proto, _, where in await in_thread(look_up, name="resolve"):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as exc:
            sock.close()
            failure = failure or exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError(f"{host} has no address")


def host_key_order(kinds: Sequence[str]) -> tuple[str, ...]:
    """The algorithms to ask a server for, those of these kinds of key first; none is left out."""
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in kinds else set()
    wanted.update(kinds)
    return tuple(sorted(HOST_KEY_ALGORITHMS, key=lambda name: name not in wanted))
