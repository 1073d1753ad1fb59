"""sshtunnel's forwarder over a connection that we made: a listener on loopback for one port inside the instance.

From sshtunnel (0.5) come the listener, its thread and a thread for each connection. What it would do by itself and
must not is taken from it: reading ~/.ssh, asking an agent, connecting, and closing the connection when it stops.

Other users of this machine can reach a listener on loopback, and the engines behind it often ask for no key. So it
serves only connections that this process has announced, known by the address that they come from, which
our socket holds before it connects and nobody else can have meanwhile. Everybody else is hung up on before a byte
is read or a channel opened. It works the other way round as well: we send nothing before our own relay has
said that it got our connection, so whoever might listen in its place learns nothing.
"""

import contextlib
import logging
import socket
import threading
from typing import Any

import paramiko
import sshtunnel  # type: ignore[import-untyped]

from vastproxy.services.tunnels.base import SshAddress
from vastproxy.services.tunnels.forwarded import Caller
from vastproxy.services.tunnels.paramiko_relay import Relay, tune
from vastproxy.services.tunnels.paramiko_transport import ENDED, NO_LIMIT_S, SshTransport

logger = logging.getLogger(__name__)

#: The only place where a forwarder may listen; sshtunnel's default is 0.0.0.0.
LOCAL = "127.0.0.1"
#: How often an idle listener looks around where closing does not wake it (Linux: it does); sshtunnel: every 0.1 s.
LOOK_EVERY_S = 1.0
#: Pause before the next try to accept, when the process has no descriptor left for it.
NO_DESCRIPTOR_PAUSE_S = 0.05

#: Host and port of a local socket.
Local = tuple[str, int]


class Callers:
    """Who is about to connect to a forwarder, by the address that he comes from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[Local, Caller] = {}

    def expect(self, came_from: Local, caller: Caller) -> None:
        """Somebody will come from this local address."""
        with self._lock:
            self._expected[came_from] = caller

    def is_expected(self, came_from: Local) -> bool:
        """Whether whoever comes from this address is one of ours."""
        with self._lock:
            return came_from in self._expected

    def claim(self, came_from: Local) -> Caller | None:
        """Who came from this address, once; None if nobody was expected or he has been given up."""
        with self._lock:
            return self._expected.pop(came_from, None)


class _Server(sshtunnel._ThreadingForwardServer):  # type: ignore[misc]
    """Takes connections that were announced, and no others: everybody on this machine can reach the port."""

    #: socketserver has 5; each connection above it would wait a second for its second attempt.
    request_queue_size = 1024

    def get_request(self) -> tuple[socket.socket, Local]:
        try:
            sock, came_from = super().get_request()
        except OSError:
            threading.Event().wait(NO_DESCRIPTOR_PAUSE_S)  # else what waits would be tried again at once
            raise
        return sock, came_from

    def verify_request(self, request: socket.socket, client_address: Local) -> bool:
        callers: Callers = self.RequestHandlerClass.callers
        if callers.is_expected(client_address):
            return True
        logger.debug("turned away a connection to a tunnel's port that nobody waits for")
        return False

    def handle_error(self, request: socket.socket, client_address: Local) -> None:
        """No thread could be started for this connection, or a bug: say so to whoever waits for it."""
        logger.exception("a stream of the sshtunnel engine failed")
        caller = self.RequestHandlerClass.callers.claim(client_address)
        if caller is not None:
            caller.tell_opened(ConnectionRefusedError("no thread could be started for it"))
            caller.finish()


class _Handler(sshtunnel._ForwardHandler):  # type: ignore[misc]
    """One connection, in a thread of its own."""

    callers: Callers
    window_bytes: int

    def handle(self) -> None:
        caller = self.callers.claim(self.client_address)
        if caller is None:
            return
        try:
            tune(self.request)
            chan = self._open(caller)
            if chan is not None:
                Relay(self.request, chan, caller, self.ssh_transport).carry()
        except BaseException:
            caller.is_lost = True  # a bug here must not look like the end of an answer
            caller.tell_opened(ConnectionAbortedError("its relay failed"))
            raise
        finally:
            self.request.close()
            caller.finish()

    def _open(self, caller: Caller) -> Any:
        """The channel, if it opened and is still wanted. Waits for the answer however long it takes:

        paramiko forgets a channel that it no longer waits for, and the other side keeps it open for ever.
        """
        transport: SshTransport = self.ssh_transport
        try:
            chan = transport.open_channel(
                "direct-tcpip",
                self.remote_address,
                self.client_address,
                window_size=self.window_bytes,
                timeout=NO_LIMIT_S,
            )
        except ENDED as exc:
            transport.has_ended_with(exc)  # whoever hears of it shall see the end of the connection as well
            caller.tell_opened(exc)
            return None
        if caller.closed.is_set():
            chan.close()
            return None
        caller.tell_opened(None)
        return chan


class Forwarder(sshtunnel.SSHTunnelForwarder):  # type: ignore[misc]
    """Listens for connections to one port inside the instance, for as long as its SSH connection lives.

    `start` and `stop` block for a moment (`stop` up to LOOK_EVERY_S where closing does not wake a listener).
    The thread of the listener ends with `stop`; those of the connections end with their streams.
    """

    def __init__(
        self,
        transport: SshTransport,
        address: SshAddress,
        remote: tuple[str, int],
        *,
        username: str,
        window_bytes: int,
    ) -> None:
        self.is_alive = False
        self.callers = Callers()
        self._window_bytes = window_bytes
        super().__init__(
            (address.host, address.port),
            ssh_config_file=None,
            ssh_username=username,
            allow_agent=False,
            host_pkey_directories=[],
            set_keepalive=0.0,
            logger=logging.getLogger("sshtunnel"),
            local_bind_address=(LOCAL, 0),
            remote_bind_address=remote,
        )
        self._transport = transport

    @property
    def local_bind(self) -> Local:
        """Where it listens, between `start` and `stop`."""
        host, port = self._server_list[0].local_address
        return str(host), int(port)

    @staticmethod
    def _consolidate_auth(**_: Any) -> tuple[None, list[paramiko.PKey]]:
        """No keys: the login has happened. (The original would read those of ~/.ssh.)"""
        return None, []

    def _connect_to_gateway(self) -> None:
        raise paramiko.SSHException("the SSH connection has ended")

    def _make_ssh_forward_handler_class(self, remote_address_: tuple[str, int]) -> type[_Handler]:
        class Handler(_Handler):
            remote_address = remote_address_
            ssh_transport = self._transport
            logger = self.logger
            callers = self.callers
            window_bytes = self._window_bytes

        return Handler

    def _make_ssh_forward_server_class(self, remote_address_: tuple[str, int]) -> type[_Server]:
        return _Server

    def _serve_forever_wrapper(self, _srv: _Server, poll_interval: float = LOOK_EVERY_S) -> None:
        _srv.serve_forever(poll_interval)

    def _stop_transport(self, force: bool = False) -> None:
        """End the listener and let go of the connection, which belongs to the tunnel."""
        for server in self._server_list:
            if self.is_alive:  # else nobody serves, and nobody would confirm the end
                with contextlib.suppress(OSError):  # macOS
                    server.socket.shutdown(socket.SHUT_RDWR)  # wakes its thread
                server.shutdown()
            server.server_close()
        self.is_alive = False
        with contextlib.suppress(KeyError):
            del self.__dict__["_transport"]
