"""Watched commands over asyncssh; see `watch` for what they promise."""

import asyncio
from collections.abc import Callable
from typing import Any

from vastproxy.services.tunnels.command import CommandSession
from vastproxy.services.tunnels.watch import MAX_OUTPUT_BYTES, Allowance, OnLine


class LineSession(CommandSession):
    """A watched command from its start to its end, over asyncssh."""

    def __init__(
        self,
        command: str,
        on_line: OnLine,
        loop: asyncio.AbstractEventLoop,
        *,
        silence_s: float,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> None:
        super().__init__(command, loop, max_output_bytes=0)
        self.silence_s = silence_s
        #: Loop time at which something came last, or the beginning.
        self.heard_at = loop.time()
        #: What `on_line` has raised.
        self.failure: Exception | None = None
        self._loop = loop
        self._on_line = on_line
        self._max_line_bytes = max_output_bytes
        self._allowance = Allowance(max_output_bytes, silence_s, loop.time())
        self._rest = bytearray()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if self.was_killed:
            return
        self.heard_at = self._loop.time()
        if not self._allowance.take(len(data), self.heard_at):
            self.kill()
        elif datatype is None:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if b"\n" not in data:  # a line that comes byte by byte must not be copied for each
            self._rest += data
            lines: list[bytes] = []
        else:
            *lines, rest = (bytes(self._rest) + data).split(b"\n")
            self._rest = bytearray(rest)
        if len(self._rest) > self._max_line_bytes or not all(map(self._hand_over, lines)):
            self.kill()

    def _hand_over(self, line: bytes) -> bool:
        if len(line) > self._max_line_bytes:
            return False
        try:
            return self._on_line(line.decode("utf-8", "replace"))
        except Exception as exc:  # in here it would end the connection; the watcher gets it
            self.failure = exc
            return False


async def attend(
    session: LineSession,
    starting: "asyncio.Future[Exception | None]",
    *,
    who: str,
    lost: Callable[[], Exception | None],
) -> int | None:
    """Stay with a watched command to its end; see `Watchable.watch`.

    `starting` is the opening of its channel, which goes on when we are cancelled, and returns what went wrong.
    `lost` tells why the connection has ended, or None while it lives.
    """
    try:
        await _until(starting, session, who)
        if (failure := starting.result()) is not None:
            raise failure
        await _until(session.finished, session, who)
    except BaseException:
        session.kill()
        raise
    if session.failure is not None:
        raise session.failure
    if not session.is_complete and (reason := lost()) is not None:
        raise reason
    return session.result().exit_status


async def _until(future: "asyncio.Future[Any]", session: LineSession, who: str) -> None:
    """Wait for `future`, which goes on without us, as long as something is heard. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    while not future.done():
        left_s = session.heard_at + session.silence_s - loop.time()
        if left_s <= 0:
            raise TimeoutError(
                f"{who}: a watched command was silent for {session.silence_s:g} s and was killed"
            )
        await asyncio.wait({future}, timeout=left_s)
