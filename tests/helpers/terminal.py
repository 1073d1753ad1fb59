"""A program on a terminal of its own, with somebody who reads and types.

async with Terminal(["vastproxy", "serve"], env=env, cwd=home) as terminal:
    await terminal.shows("Passphrase")
    terminal.types("words")
    assert await terminal.wait() == 0
"""

import asyncio
import os
import pty
import signal
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

CTRL_C, CTRL_D = b"\x03", b"\x04"
#: The terminal is made that of the new session, so that /dev/tty and Ctrl-C mean it.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, such as these tests, ignore it
os.execv(sys.argv[1], sys.argv[1:])
"""
_LIMIT_S = 45.0


class Terminal:
    """See the module's docstring. On exit the program has ended; one that still runs is interrupted with SIGTERM."""

    def __init__(self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        """`arguments` are those of this Python."""
        self._arguments = list(arguments)
        self._env = dict(env)
        self._cwd = cwd
        self._shown = bytearray()
        self._grown = asyncio.Event()

    @property
    def screen(self) -> str:
        """All that it has shown so far."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    async def shows(self, text: str, *, times: int = 1) -> None:
        """Wait until this text has been shown so often."""
        try:
            async with asyncio.timeout(_LIMIT_S):
                while self.screen.count(text) < times:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown:\n{self.screen}") from None

    def types(self, line: str) -> None:
        """A line, as with the enter key."""
        os.write(self._ours, line.encode() + b"\n")

    def presses(self, key: bytes) -> None:
        """A key, such as CTRL_C."""
        os.write(self._ours, key)

    async def wait(self) -> int:
        """Wait for its end. Returns the exit code."""
        async with asyncio.timeout(_LIMIT_S):
            code = await self._process.wait()
        while self._look():
            pass
        return code

    async def __aenter__(self) -> Self:
        self._ours, self._theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _TAKE_TERMINAL, sys.executable, *self._arguments),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        asyncio.get_running_loop().add_reader(self._ours, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await self.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)
        if error is not None:
            error.add_note(f"the screen:\n{self.screen}")

    def _look(self) -> bool:
        try:
            part = os.read(self._ours, 65_536)
        except BlockingIOError:
            return False
        self._shown += part
        self._grown.set()
        return bool(part)
