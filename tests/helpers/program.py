"""A program that somebody types, read while it runs, and ended with all that it has started."""

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.processes import descendants, end_all

LIMIT_S = 45.0


def bare_environment(home: Path, **variables: str) -> dict[str, str]:
    """What a program needs to run, with `home` for its home; nothing of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "PYTHON"))}
    path = os.environ.get("PATH", os.defpath)
    return {**kept, "PATH": path, "HOME": str(home), "PYTHONUNBUFFERED": "1", **variables}


class Program:
    """One run. `output` is what it wrote to both standard streams, as far as it was waited for."""

    def __init__(self, argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> None:
        self._argv = [str(word) for word in argv]
        self._env = dict(env)
        self._cwd = cwd
        self.output = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            env=self._env,
            cwd=self._cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            left = [self._process.pid, *descendants(self._process.pid)]
            os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            await asyncio.to_thread(end_all, lambda: left[1:])
        assert self._process.stdout is not None
        await self._process.stdout.read()

    async def says(self, pattern: str) -> re.Match[str]:
        """Read on until the output matches."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while (found := re.search(pattern, self.output)) is None:
                piece = await self._process.stdout.read(65_536)
                assert piece, f"it ended without saying {pattern}:\n{self.output}"
                self.output += piece.decode()
        return found

    async def ends(self, *, limit_s: float = LIMIT_S) -> int:
        """Wait for its end by itself. Returns the exit code."""
        assert self._process.stdout is not None
        async with asyncio.timeout(limit_s):
            self.output += (await self._process.stdout.read()).decode()
            return await self._process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask for its end, and wait for it."""
        self._process.send_signal(number)
        return await self.ends()
