"""One live asyncssh connection as a `Tunnel`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import asyncssh

from vastproxy.services.errors import TunnelLost
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import CommandResult, SshAddress, StreamProtocolT, TunnelTarget
from vastproxy.services.tunnels.border import channel_error, closed_error, lost_error, peer
from vastproxy.services.tunnels.channel import ChannelStream
from vastproxy.services.tunnels.command import CommandSession
from vastproxy.services.tunnels.doubt import Doubtable
from vastproxy.services.tunnels.fastpath import FastConnection
from vastproxy.services.tunnels.liveness import NoSignOfLife
from vastproxy.services.tunnels.pulse import AsyncsshPulse
from vastproxy.services.tunnels.stream import DirectStream
from vastproxy.services.tunnels.watch import MAX_OUTPUT_BYTES, OnLine
from vastproxy.services.tunnels.watched import LineSession, attend

logger = logging.getLogger(__name__)

#: Any command does; this one is built into every shell.
FIRST_COMMAND = "true"
#: How long `close` waits for an orderly end. It needs one turn of the loop, unless asyncssh is stuck.
CLOSE_LIMIT_S = 2.0
#: Commands at the same time on one connection. sshd allows 10 sessions (MaxSessions, OpenSSH's default) and
#: frees one only after it has read what follows the end of it, so each may count twice for a moment.
MAX_COMMANDS = 4


class Ending:
    """That a connection has ended, and why. Exists before the connection does, so that no end is missed."""

    def __init__(self, target: TunnelTarget, address: SshAddress) -> None:
        self._target = target
        self._address = address
        self.closed_by_us = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._reason: Exception | None = None
        self._has_happened = False

    def happened(self, exc: Exception | None) -> None:
        """The connection ended; only the first call counts."""
        if not self._has_happened:
            self._has_happened = True
            self._reason = exc
            if not self.lost.done():
                self.lost.set_result(None if self.closed_by_us else self.error())

    def error(self, reason: Exception | None = None) -> TunnelLost:
        """What to tell somebody who still uses the connection. `reason`: why it ends, where we have not heard yet."""
        if self.closed_by_us:
            return closed_error(self._target, self._address)
        return lost_error(self._reason or reason, self._target, self._address)

    @property
    def has_happened(self) -> bool:
        return self._has_happened


class AsyncsshTunnel(Doubtable):
    """See `Tunnel` for the contract."""

    def __init__(
        self,
        conn: asyncssh.SSHClientConnection,
        ending: Ending,
        target: TunnelTarget,
        address: SshAddress,
        *,
        window_bytes: int,
    ) -> None:
        super().__init__(peer(target, address))
        self._conn = conn
        self._ending = ending
        self._target = target
        self._address = address
        self._window_bytes = window_bytes
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"tunnel {target.instance_id}")
        self._openings: set[asyncio.Task[Exception | None]] = set()
        self._commands = asyncio.Semaphore(MAX_COMMANDS)
        #: For the sweeper, where asyncssh is known.
        self.pulse = AsyncsshPulse(conn, doubt=self.doubt, die=self._die)

    def __repr__(self) -> str:
        return f"<AsyncsshTunnel {peer(self._target, self._address)} {'alive' if self.is_alive else 'ended'}>"

    @property
    def address(self) -> SshAddress:
        return self._address

    @property
    def is_alive(self) -> bool:
        # asyncssh lets go of its socket at the first sign of the end; we are told a turn of the loop later.
        return not self._ending.has_happened and self._conn.get_extra_info("socket") is not None

    @property
    def lost(self) -> "asyncio.Future[Exception | None]":
        return self._ending.lost

    @property
    def cipher(self) -> str:
        """The cipher in use, such as `aes128-gcm@openssh.com`."""
        return str(self._conn.get_extra_info("send_cipher"))

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = "127.0.0.1"
    ) -> StreamProtocolT:
        """See `Tunnel.open`."""
        self._require_life()
        if isinstance(self._conn, FastConnection):
            return await self._open_direct(self._conn, factory, host, port)
        stream = ChannelStream(factory, self._explain_end, self._loop)
        # asyncssh forgets a channel whose opening is cancelled, and the other side keeps it open for ever.
        # So the opening runs to its end, and what comes out of it is closed if nobody waits any more.
        opening = self._begin(self._open_channel(stream, host, port), name=f"open {host}:{port}")
        try:
            failure = await asyncio.shield(opening)
        except asyncio.CancelledError:
            stream.abandon()
            raise
        if failure is not None:
            raise failure
        return stream.protocol

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        """See `Tunnel.run`."""
        self._require_life()
        try:
            async with asyncio.timeout(timeout_s), self._commands:
                return await self._run(command, max_output_bytes)
        except TimeoutError:
            who = peer(self._target, self._address)
            raise TimeoutError(
                f"{who}: `{command:.60}` did not end within {timeout_s:g} s and was killed"
            ) from None

    async def watch(
        self, command: str, on_line: OnLine, *, silence_s: float, max_output_bytes: int = MAX_OUTPUT_BYTES
    ) -> int | None:
        """See `Watchable.watch`. Not counted among `MAX_COMMANDS`: one watch leaves room for those twice over."""
        self._require_life()
        session = LineSession(
            command, on_line, self._loop, silence_s=silence_s, max_output_bytes=max_output_bytes
        )
        self.pulse.watches += 1
        try:
            return await attend(
                session,
                self._begin(self._start(session), name="watch"),
                who=peer(self._target, self._address),
                lost=lambda: None if self.is_alive else self._ending.error(),
            )
        finally:
            self.pulse.watches -= 1

    async def close(self) -> None:
        """See `Tunnel.close`."""
        self._ending.closed_by_us = True
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                self._conn.close()
                await self._conn.wait_closed()
                if self._openings:  # they have just failed
                    await asyncio.wait(self._openings)
        except Exception as exc:
            logger.warning("%s did not close in good order: %r", self, exc)
        finally:
            self._conn.abort()

    async def run_first_command(self) -> None:
        """Ask for a command, so that sshd sets TCP_NODELAY; wait until it has started, not for its end.

        A server that forbids commands still forwards: that costs latency, so it is no error. Raises what
        asyncssh raises when the connection ends.
        """
        session = CommandSession(FIRST_COMMAND, self._loop, max_output_bytes=0)
        try:
            await self._conn.create_session(lambda: session, FIRST_COMMAND, request_pty=False, encoding=None)
        except asyncssh.ChannelOpenError as exc:
            if not self.is_alive:
                raise
            logger.debug("%s runs no commands: %s", self, exc.reason)

    def _begin(
        self, opening: Coroutine[Any, Any, Exception | None], *, name: str
    ) -> "asyncio.Task[Exception | None]":
        task = self._tasks.spawn(opening, name=name)
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)
        return task

    def _die(self, silent_s: float) -> None:
        self._ending.happened(NoSignOfLife(silent_s))
        self._conn.abort()

    def _require_life(self) -> None:
        if not self.is_alive:
            raise self._ending.error()

    def _explain_end(self, exc: Exception | None) -> Exception | None:
        """Why a stream ended that its owner did not close: None if the other end closed it in good order."""
        return None if exc is None and self.is_alive else self._ending.error(exc)

    async def _open_channel(
        self, stream: ChannelStream[StreamProtocolT], host: str, port: int
    ) -> Exception | None:
        """Open the channel of `stream`. Returns what went wrong, as nobody may be there to catch it."""
        try:
            await self._conn.create_connection(
                lambda: stream, host, port, encoding=None, window=self._window_bytes
            )
        except Exception as exc:
            return self._open_error(exc, host, port)
        return None

    async def _open_direct(
        self, conn: FastConnection, factory: Callable[[], StreamProtocolT], host: str, port: int
    ) -> StreamProtocolT:
        """Open a channel of our own making."""
        stream = DirectStream(conn, factory, self._ending.error, self._loop, window=self._window_bytes)
        try:
            return await stream.begin(host, port)
        except asyncio.CancelledError:
            stream.abandon()
            raise
        except Exception as exc:
            raise self._open_error(exc, host, port) from None

    def _open_error(self, exc: Exception, host: str, port: int) -> Exception:
        """What it means that a channel did not open."""
        if not self.is_alive:
            return self._ending.error()
        if isinstance(exc, asyncssh.ChannelOpenError):
            at = f"port {port}" if host == "127.0.0.1" else f"{host}:{port}"
            return channel_error(exc, self._target, self._address, at)
        return exc  # raised by the caller's own protocol

    async def _run(self, command: str, max_output_bytes: int) -> CommandResult:
        session = CommandSession(command, self._loop, max_output_bytes=max_output_bytes)
        starting = self._begin(self._start(session), name="command")
        try:
            failure = await asyncio.shield(starting)
            if failure is not None:
                raise failure
            await session.finished
        except asyncio.CancelledError:
            session.kill()
            raise
        if session.is_complete or self.is_alive:
            return session.result()
        raise self._ending.error()

    async def _start(self, session: CommandSession) -> Exception | None:
        """Start a command. Returns what went wrong, as nobody may be there to catch it."""
        try:
            await self._conn.create_session(lambda: session, session.line, request_pty=False, encoding=None)
        except Exception as exc:
            if not self.is_alive:
                return self._ending.error()
            if session.was_killed:
                return None
            if isinstance(exc, asyncssh.ChannelOpenError):
                return channel_error(exc, self._target, self._address, "a session for a command")
            return exc
        return None
