"""One live paramiko connection as a `Tunnel`, with a forwarder of sshtunnel for each port that is used."""

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Callable

from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.services.tunnels.base import CommandResult, SshAddress, StreamProtocolT, TunnelTarget
from vastproxy.services.tunnels.border import peer
from vastproxy.services.tunnels.doubt import Doubtable
from vastproxy.services.tunnels.forwarded import Caller, ForwardedStream
from vastproxy.services.tunnels.liveness import NoSignOfLife
from vastproxy.services.tunnels.paramiko_border import open_error
from vastproxy.services.tunnels.paramiko_command import RemoteCommand
from vastproxy.services.tunnels.paramiko_forwarder import LOCAL, Forwarder
from vastproxy.services.tunnels.paramiko_listeners import Listener, Listeners, NoListener, local_end
from vastproxy.services.tunnels.paramiko_pulse import ParamikoPulse
from vastproxy.services.tunnels.paramiko_slots import Slots
from vastproxy.services.tunnels.paramiko_transport import ENDED, SshTransport
from vastproxy.services.tunnels.tunnel import CLOSE_LIMIT_S, MAX_COMMANDS, Ending


class ToldEnding(Ending):
    """The end of a connection, which the tunnel hears of in the same turn of the loop."""

    then: Callable[[], None] | None = None

    def happened(self, exc: Exception | None) -> None:
        super().happened(exc)
        if self.then is not None:
            self.then()


class ParamikoTunnel(Doubtable):
    """See `Tunnel` for the contract."""

    def __init__(
        self,
        transport: SshTransport,
        ending: ToldEnding,
        target: TunnelTarget,
        address: SshAddress,
        *,
        slots: Slots,
        username: str,
        window_bytes: int,
    ) -> None:
        super().__init__(peer(target, address))
        self._transport = transport
        self._ending = ending
        self._target = target
        self._address = address
        self._slots = slots
        self._username = username
        self._window_bytes = window_bytes
        self._who = peer(target, address)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"tunnel {target.instance_id}")
        self._commands = asyncio.Semaphore(MAX_COMMANDS)
        self._callers: set[Caller] = set()
        self._streams: set[ForwardedStream] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._listeners = Listeners(self._make_forwarder, self._tasks)
        #: For the sweeper.
        self.pulse = ParamikoPulse(
            transport, self._tasks, is_busy=self._is_busy, doubt=self.doubt, die=self._die
        )
        self._finishing: asyncio.Task[None] | None = None
        ending.then = self._end
        if ending.has_happened:
            self._end()

    def __repr__(self) -> str:
        return f"<ParamikoTunnel {self._who} {'alive' if self.is_alive else 'ended'}>"

    @property
    def address(self) -> SshAddress:
        return self._address

    @property
    def is_alive(self) -> bool:
        # paramiko's thread knows of the end before the loop is told.
        return not self._ending.has_happened and not self._ending.closed_by_us and self._transport.is_active()

    @property
    def lost(self) -> "asyncio.Future[Exception | None]":
        return self._ending.lost

    @property
    def cipher(self) -> str:
        """The cipher in use, such as `aes128-gcm@openssh.com`."""
        return str(self._transport.local_cipher)

    @property
    def listening(self) -> list[tuple[str, int]]:
        """Where this tunnel takes local connections now: host and port, one for each port used inside."""
        return self._listeners.addresses()

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = LOCAL
    ) -> StreamProtocolT:
        """See `Tunnel.open`. Raises StreamsFull when the process carries all it may."""
        self._require_life()
        self._slots.take(self._who)
        caller = Caller(self._loop, self._slots.free)
        self._callers = {known for known in self._callers if not known.ended.is_set()} | {caller}
        listener = self._listeners.enter((host, port))
        try:
            sock = await self._reach(caller, listener)
        except BaseException as exc:
            self._listeners.leave(listener, keep=False)
            raise self._open_error(exc, listener.remote) from None
        return await self._begin(factory, caller, listener, sock)

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        """See `Tunnel.run`."""
        self._require_life()
        try:
            async with asyncio.timeout(timeout_s), self._commands:
                return await self._run(command, max_output_bytes)
        except TimeoutError:
            raise TimeoutError(
                f"{self._who}: `{command:.60}` did not end within {timeout_s:g} s and was killed"
            ) from None

    async def close(self) -> None:
        """See `Tunnel.close`."""
        self._ending.closed_by_us = True
        self._transport.hang_up()
        await asyncio.wait([self._ending.lost], timeout=CLOSE_LIMIT_S)
        self._ending.happened(None)  # has happened, unless paramiko's thread is stuck
        if self._finishing is not None:
            await asyncio.wait([self._finishing], timeout=2 * CLOSE_LIMIT_S)
        await self._tasks.aclose(limit_s=CLOSE_LIMIT_S)

    def _make_forwarder(self, remote: tuple[str, int]) -> Forwarder:
        return Forwarder(
            self._transport, self._address, remote, username=self._username, window_bytes=self._window_bytes
        )

    def _require_life(self) -> None:
        if not self.is_alive:
            raise self._loss()

    def _loss(self) -> Exception:
        """Why what is on this connection ends."""
        return self._ending.error(self._transport.end_reason)

    async def _reach(self, caller: Caller, listener: Listener) -> socket.socket:
        """A connection to the forwarder, which has opened the channel for it. Raises why it has not."""
        with contextlib.ExitStack() as undo:
            undo.callback(caller.finish)
            forwarder = await listener.forwarder()
            sock = undo.enter_context(local_end(self._slots, self._who))
            came_from = sock.getsockname()
            forwarder.callers.expect(came_from, caller)
            undo.pop_all()
        try:
            await self._loop.sock_connect(sock, forwarder.local_bind)
            failure = await caller.opened
            if failure is not None:
                raise failure
            self._require_life()
        except BaseException:
            caller.closed.set()
            if forwarder.callers.claim(came_from) is not None:
                caller.finish()  # no relay has begun, and none will
            sock.close()
            raise
        return sock

    async def _begin(
        self, factory: Callable[[], StreamProtocolT], caller: Caller, listener: Listener, sock: socket.socket
    ) -> StreamProtocolT:
        """Hand the connection to the protocol that `factory` makes."""
        try:
            protocol = factory()
        except BaseException:
            caller.closed.set()
            sock.close()
            self._listeners.leave(listener, keep=False)
            raise

        def forget(stream: ForwardedStream) -> None:
            self._streams.discard(stream)
            self._listeners.leave(listener, keep=True)

        caller.stream = stream = ForwardedStream(caller, protocol, self._loss, forget)
        self._streams.add(stream)
        adopting = self._tasks.spawn(self._adopt(stream, sock), name="adopt stream")
        self._adopting.add(adopting)
        adopting.add_done_callback(self._adopting.discard)
        try:
            await asyncio.shield(adopting)
        except asyncio.CancelledError:
            adopting.add_done_callback(lambda _: stream.abort())
            raise
        if stream.failure is not None:
            raise stream.failure
        return protocol

    async def _adopt(self, stream: ForwardedStream, sock: socket.socket) -> None:
        """Let the loop take the socket over. Goes on when `open` is cancelled: a cancellation in here would end the
        transport without a word to its protocol.
        """
        await self._loop.create_connection(lambda: stream, sock=sock)
        stream.adopted()

    def _open_error(self, exc: BaseException, remote: tuple[str, int]) -> BaseException:
        """What it means that a stream did not open."""
        if not isinstance(exc, (*ENDED, NoListener)):
            return exc  # ours already, or a cancellation
        if not self.is_alive:
            return self._loss()
        host, port = remote
        at = f"port {port}" if host == LOCAL else f"{host}:{port}"
        return open_error(exc, self._target, self._address, at)

    async def _run(self, command: str, max_output_bytes: int) -> CommandResult:
        remote = RemoteCommand(command, max_output_bytes=max_output_bytes)
        try:
            await in_thread(functools.partial(remote.run, self._transport), name="ssh command")
        except asyncio.CancelledError:
            remote.was_killed = True
            if not self._tasks.closed:
                self._tasks.spawn(in_thread(remote.kill, name="ssh command end"), name="kill command")
            raise
        except ENDED as exc:
            if not self.is_alive:
                raise self._loss() from None
            raise open_error(exc, self._target, self._address, "a session for a command") from None
        if remote.was_lost:
            raise self._loss()
        return remote.result()

    def _is_busy(self) -> bool:
        """Is a stream open, or being opened?"""
        return bool(self._streams) or any(not caller.ended.is_set() for caller in self._callers)

    def _die(self, silent_s: float) -> None:
        self._ending.happened(NoSignOfLife(silent_s))
        self._transport.hang_up()

    def _end(self) -> None:
        """The connection has ended: tell everybody, and let go of what is held for them."""
        if self._finishing is None:
            for stream in list(self._streams):
                stream.lose()
            for caller in list(self._callers):
                caller.give_up()
            self._finishing = self._tasks.spawn(self._finish(), name="finish")

    async def _finish(self) -> None:
        stop = functools.partial(self._stop, await self._listeners.all())
        await in_thread(stop, name="ssh tunnel end")
        if self._adopting:
            await asyncio.wait(self._adopting)

    def _stop(self, forwarders: list[Forwarder]) -> None:
        """End the listeners and see the threads of the connection end. Blocking, bounded."""
        give_up = time.monotonic() + CLOSE_LIMIT_S
        for forwarder in forwarders:
            forwarder.stop()
        self._transport.join(CLOSE_LIMIT_S)
        for caller in list(self._callers):
            caller.ended.wait(max(0.0, give_up - time.monotonic()))
