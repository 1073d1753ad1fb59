"""Programs of the bench: pinned to a core, ended by their ids with all that they started, and what they cost.

CPU is read from /proc/PID/task/*/schedstat: nanoseconds on the processor, user and system together, so that a
short measurement is not rounded to the kernel's ticks of 10 ms.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: Everything that asks and answers is on one core, the contender alone on the other.
HELPERS_CORE = 0
CONTENDER_CORE = 1

_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_EVERY_S = 0.02
_END_LIMIT_S = 8.0


class BenchError(Exception):
    """Something the bench needs did not start, answer or end. One line for a person."""


def wait(seconds: float) -> None:
    """Do nothing for a while."""
    threading.Event().wait(seconds)


def wait_until(condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
    """Look until the condition holds. Raises BenchError after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {limit_s:g} s")
        wait(_LOOK_EVERY_S)


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Does anybody accept connections there?"""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# ── what they cost ─────────────────────────────────────────────────────────────────────────────────


def cpu_ns(pids: Sequence[int]) -> int:
    """Nanoseconds of CPU of the living threads of these processes. A process that is gone counts nothing."""
    return sum(_schedstat(path) for pid in pids for path in _threads(pid))


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory of these processes; pages that they share are counted for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
    return total


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`."""
    parents = dict(_parents())
    found = [pid]
    for ancestor in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def _threads(pid: int) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for name in os.listdir(_PROC / str(pid) / "task"):
            yield _PROC / str(pid) / "task" / name / "schedstat"


def _schedstat(path: Path) -> int:
    with contextlib.suppress(OSError):
        return int(path.read_text().split()[0])
    return 0


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = (_PROC / entry / "stat").read_text()
                yield int(entry), int(text.rpartition(")")[2].split()[1])


# ── one program ────────────────────────────────────────────────────────────────────────────────────


class Program:
    """A program pinned to `core`, used as a context manager: ready inside, ended after, also if we are killed.

    `ready` is looked at until it holds. What it writes goes to `log`.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        core: int,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready_limit_s: float = 20.0,
    ) -> None:
        # The kernel ends it when this process ends in a way that leaves no time for it.
        self._argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(core), *map(str, argv)]
        self.name = Path(argv[0]).name
        self._log = log
        self._ready = ready
        self._env = env
        self._cwd = cwd
        self._ready_limit_s = ready_limit_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def pids(self) -> list[int]:
        """The program and everything that it has started."""
        return [self.pid, *descendants(self.pid)]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def last_words(self) -> str:
        """The last line that it wrote, for people who want to know why it failed."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it wrote nothing"

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self._env is None else dict(self._env),
                cwd=self._cwd,
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, limit_s=self._ready_limit_s, what=f"{self.name} is ready")
        except BaseException as error:
            self.end()
            if isinstance(error, BenchError):
                raise BenchError(f"{error}: {self.last_words()}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """SIGTERM, then SIGKILL to it and to all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        below = descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_LIMIT_S)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise BenchError(f"{self.name} ended with status {status}")
        return self._ready()
