"""The dashboard on the terminal of a server: a process of its own, so that drawing never holds up a token.

It asks the server over HTTP like any other, with a key that is made for it, and reads the server's log from a pipe,
whose end tells it that the server has gone. While it is there, nothing else writes to the terminal. Loads no Textual.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
from typing import Any, Protocol

from vastproxy.api.auth import KeyRing
from vastproxy.cli.logs import Logs
from vastproxy.services.threads import in_thread

logger = logging.getLogger(__name__)

#: How long it may take to leave the terminal when the server ends.
LEAVE_S = 3.0
_STDIN, _STDOUT, _STDERR = 0, 1, 2
#: Ends what a program that was killed leaves on: the other screen, reports of the mouse, pasting, keys, no cursor.
_AS_IT_WAS = b"\x1b[?1049l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?2004l\x1b[<u\x1b[?25h\r\n"


class Server(Protocol):
    """A server that listens."""

    url: str
    keys: KeyRing


def can_show() -> bool:
    """Does somebody sit at a terminal that can show it?"""
    if os.name != "posix" or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    return all(os.isatty(number) for number in range(3))


class Beside:
    """Shows the dashboard until somebody leaves it, or the server ends: `await Beside(logs)(server)`.

    When it is left, the lines of the log come to the terminal again.
    """

    def __init__(self, logs: Logs, *, ascii_only: bool = False) -> None:
        self._logs = logs
        self._ascii_only = ascii_only

    async def __call__(self, server: Server) -> None:
        import termios  # there is none on Windows

        key = secrets.token_urlsafe(32)
        server.keys.vouch(key)
        before = termios.tcgetattr(_STDIN)
        with _Curtain(self._logs) as curtain:
            process = await in_thread(lambda: self._start(server.url, key, curtain), name="dashboard-start")
            try:
                await in_thread(process.wait, name="dashboard")
            finally:
                if process.poll() is None:
                    await _end(process)
                if process.returncode:
                    _tidy(curtain.terminal, before)
        if process.returncode == 0:
            logger.info(
                "the dashboard is closed; the proxy runs until Ctrl-C, `vastproxy top` shows it again"
            )
        else:
            logger.warning(
                "the dashboard has ended by itself (exit code %d); the proxy runs on", process.returncode
            )

    def _start(self, url: str, key: str, curtain: "_Curtain") -> "subprocess.Popen[bytes]":
        """In a thread: Ctrl-C is for us alone until the dashboard can listen, so it is started with it blocked."""
        words = [sys.executable, "-m", "vastproxy.cli.top", reachable(url)]
        words += ["--log", str(curtain.reader), "--parent", str(os.getpid())]
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return subprocess.Popen(
            [*words, "--ascii"] if self._ascii_only else words,
            stdout=curtain.terminal,
            stderr=curtain.terminal,
            env={**os.environ, "VASTPROXY_TOP_KEY": key},
            pass_fds=[curtain.reader],
        )


class _Curtain:
    """While it is down, what this process writes to its terminal goes into a pipe: `reader` is the end of it,
    `terminal` the terminal. What nobody has read by the end is shown."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self.terminal = os.dup(_STDERR)
        self.reader, self._writer = os.pipe()

    def __enter__(self) -> "_Curtain":
        self._logs.lead_to(self._writer)
        sys.stdout.flush()
        os.dup2(self._writer, _STDOUT)
        os.dup2(self._writer, _STDERR)
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(OSError):  # the terminal may have gone
            sys.stdout.flush()
        os.dup2(self.terminal, _STDOUT)
        os.dup2(self.terminal, _STDERR)
        self._logs.lead_to(self.terminal)
        os.close(self._writer)
        os.set_blocking(self.reader, False)
        with contextlib.suppress(OSError):  # the terminal may have gone
            while left := os.read(self.reader, 65_536):
                os.write(self.terminal, left)
        os.close(self.reader)
        os.close(self.terminal)


async def _end(process: "subprocess.Popen[bytes]") -> None:
    """Politely, so that it leaves the terminal as it found it."""
    process.terminate()
    try:
        async with asyncio.timeout(LEAVE_S):
            await in_thread(process.wait, name="dashboard-end")
    except TimeoutError:
        process.kill()
        await in_thread(process.wait, name="dashboard-end")


def _tidy(terminal: int, before: list[Any]) -> None:
    """It did not."""
    import termios

    with contextlib.suppress(OSError, termios.error):
        os.write(terminal, _AS_IT_WAS)
        termios.tcsetattr(_STDIN, termios.TCSANOW, before)


def reachable(url: str) -> str:
    """Where this machine finds what listens there: an address that means everywhere is asked on loopback."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
