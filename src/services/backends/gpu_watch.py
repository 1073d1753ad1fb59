"""Keeps the reading of one instance's GPUs fresh, over whatever tunnel leads there. Acts; `gpu_course` decides."""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from vastproxy.services.backends.gpu_course import Course, End
from vastproxy.services.backends.gpu_query import QUERY_LIMIT_S
from vastproxy.services.backends.gpus import Failure, Frames, GpuProgram, GpuReading
from vastproxy.services.errors import TunnelError, TunnelLost
from vastproxy.services.tunnels.base import Tunnel
from vastproxy.services.tunnels.watch import Watchable

logger = logging.getLogger(__name__)

#: People and graphs look at GPUs, nothing is decided by them.
INTERVAL_S: Final = 15.0
#: What a round trip and a busy instance may add to the time that the program allows itself.
SLACK_S: Final = 5.0
#: How many of the longest readings a held session may print within one silence.
_ROOM: Final = 4


class GpuWatch:
    """Reads the GPUs of one instance. What it has learnt about the driver outlives a tunnel.

    `gpu_arch` is what the account says of the instance. `on_reading` is called in the loop's thread with each
    new reading, also with those that are only an error. `limit_s` bounds a run of the program inside the
    instance; when that cannot be ended, we give up `slack_s` later.
    """

    def __init__(
        self,
        gpu_arch: str,
        on_reading: Callable[[GpuReading], None],
        *,
        interval_s: float = INTERVAL_S,
        limit_s: float = QUERY_LIMIT_S,
        slack_s: float = SLACK_S,
        rng: random.Random | None = None,
    ) -> None:
        self._on_reading = on_reading
        self._interval_s = interval_s
        self._rng = rng or random.Random()
        self._course = Course(GpuProgram.of(gpu_arch, limit_s=limit_s))
        self._read_limit_s = self._course.program.limit_s + slack_s

    @property
    def course(self) -> Course:
        """How it reads now."""
        return self._course

    async def run(self, tunnel: Tunnel) -> None:
        """Read until the tunnel has ended. Raises nothing that the instance could cause.

        Must not run twice at the same time. Cancelling it ends the command that runs inside.
        """
        self._course = Course(self._course.program)
        while tunnel.is_alive:
            self._course = self._course.begun()
            try:
                end = await self._read_on(tunnel)
            except TunnelLost:
                return
            self._course, pause_s = self._course.after(end, self._interval_s, self._rng)
            await asyncio.wait({tunnel.lost}, timeout=pause_s)

    async def _read_on(self, tunnel: Tunnel) -> End:
        """Read in the way of the course until that comes to its end. Raises TunnelLost."""
        try:
            if self._course.holds and isinstance(tunnel, Watchable):
                return await self._hold(tunnel)
            return await self._read_once(tunnel)
        except TimeoutError:
            self._on_reading(GpuReading(error=self._program.silence, failure=Failure.HUNG))
            return End.SILENT
        except TunnelLost:
            raise
        except TunnelError as error:
            logger.debug("no session for reading GPUs: %s", error)
            if not self._course.holds:
                self._on_reading(GpuReading(error=f"the GPUs cannot be read: {error}", failure=Failure.OTHER))
            return End.REFUSED

    @property
    def _program(self) -> GpuProgram:
        return self._course.program

    async def _hold(self, tunnel: Watchable) -> End:
        """Run the program again and again in one session."""
        frames = Frames(2 * self._program.max_output_bytes)  # what the loop adds comes on top

        def on_line(line: str) -> bool:
            if (frame := frames.feed(line)) is None:
                return True
            return not frame.is_mute and self._take(frame.stdout, frame.exit_status)

        await tunnel.watch(
            self._program.loop(self._interval_s),
            on_line,
            silence_s=self._interval_s + self._read_limit_s,
            max_output_bytes=_ROOM * self._program.max_output_bytes,
        )
        return End.ENDED if self._course.goes_on else End.READ

    async def _read_once(self, tunnel: Tunnel) -> End:
        result = await tunnel.run(
            self._program.command,
            timeout_s=self._read_limit_s,
            max_output_bytes=self._program.max_output_bytes,
        )
        self._take(result.stdout, result.exit_status)
        return End.READ

    def _take(self, stdout: str, exit_status: int | None) -> bool:
        """One more output. Returns whether a held session goes on."""
        reading = self._program.read(stdout, exit_status)
        self._course = self._course.with_reading(reading, stdout)
        if not self._course.refused:  # otherwise the answer to the smaller query comes at once
            self._on_reading(reading)
        return self._course.goes_on
