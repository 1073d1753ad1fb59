"""The SSH server of one simulated instance: keys, vast.ai's banner, commands, and forwards to the engine."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncssh

from vastproxy.simulator.forward import Forward
from vastproxy.simulator.nvidia_smi import Output

BANNER = (
    "Welcome to vast.ai. If authentication fails, try again after a few seconds, "
    "and double check your ssh key.\n"
    "Have fun!\n"
)
LOGIN_TIMEOUT_S = 30


class SshService:
    """Serves SSH on connected sockets. What it needs to know of the instance it asks when it is needed."""

    def __init__(
        self,
        *,
        authorized: Callable[[asyncssh.SSHKey], bool],
        route: Callable[[str, int], Path | None],
        execute: Callable[[str], Output],
    ) -> None:
        self.authorized = authorized
        #: The socket behind a host and port inside the instance; None when nothing listens there.
        self.route = route
        self.execute = execute
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        #: Logins that succeeded.
        self.logins = 0
        self._forwards: set[Forward] = set()

    @property
    def fingerprint(self) -> str:
        """SHA256 fingerprint of the host key."""
        return self.host_key.get_fingerprint()

    def change_host_key(self) -> None:
        """Answer with another key from the next connection on."""
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")

    async def serve(self, sock: socket.socket) -> None:
        """Serve one connection to its end. Whatever the other side does wrong ends only that connection."""
        conn: asyncssh.SSHServerConnection | None = None
        try:
            conn = await asyncssh.run_server(
                sock,
                server_factory=lambda: _Server(self),
                process_factory=self._process,
                server_host_keys=[self.host_key],
                login_timeout=LOGIN_TIMEOUT_S,
                gss_host=None,
                agent_forwarding=False,
                x11_forwarding=False,
                password_auth=False,
                kbdint_auth=False,
                line_editor=False,
                server_version="vastproxy_simulator",
            )
            await conn.wait_closed()
        except (OSError, asyncssh.Error):
            pass
        finally:
            if conn is not None:
                conn.abort()
                await conn.wait_closed()
            sock.close()

    async def forward(self, target: Path) -> Forward:
        """Connect a stream to a socket of the instance. Raises ChannelOpenError when nobody listens."""
        forward = await Forward.connect(target, self._forwards.discard)
        self._forwards.add(forward)
        return forward

    def cut_forwards(self, target: Path) -> None:
        """Close every stream that leads to this socket, as when the process at its end dies."""
        for forward in list(self._forwards):
            if forward.target == target:
                forward.close()

    @property
    def streams(self) -> int:
        """Forwarded streams that are open now."""
        return len(self._forwards)

    async def _process(self, process: "asyncssh.SSHServerProcess[str]") -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            if process.command is None:
                process.stdout.write("This is a simulated instance: it runs commands, it has no shell.\n")
                process.exit(0)
                return
            output = self.execute(process.command)
            process.stdout.write(output.stdout)
            process.stderr.write(output.stderr)
            while output.repeat_s is not None:
                await process.stdout.drain()
                await asyncio.sleep(output.repeat_s)
                output = self.execute(process.command)
                process.stdout.write(output.stdout)
            process.exit(output.status)


class _Server(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, service: SshService) -> None:
        self._service = service
        self._conn: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def begin_auth(self, username: str) -> bool:
        assert self._conn is not None
        self._conn.send_auth_banner(BANNER)
        return True

    def auth_completed(self) -> None:
        self._service.logins += 1

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and self._service.authorized(key)

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool | Awaitable[asyncssh.SSHTCPSession[bytes]]:
        target = self._service.route(dest_host, dest_port)
        return self._service.forward(target) if target is not None else False
