"""Outside programs in tests: own session, awaited, frozen, ended with all that they started."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
_LOOK_EVERY_S = 0.01


class ProcessFailed(AssertionError):
    """A program did not start, did not become ready, or did not end. Carries what it wrote to stderr."""


def wait_until(condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
    """Look at an outside process's state until the condition holds. Raises ProcessFailed after `limit_s`."""
    pause = threading.Event()
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{what}: not within {limit_s:g} s")
        pause.wait(_LOOK_EVERY_S)


def descendants(pid: int) -> list[int]:
    """Every living process below `pid`, children before grandchildren, in whatever session they are."""
    parents = dict(_parents())
    found = [pid]
    for ancestor in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]


def is_running(pid: int) -> bool:
    """False once the process has ended, also if nobody has waited for it yet."""
    return (stat := _stat(pid)) is not None and stat[0] not in "ZX"


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def with_environment(entry: str) -> list[int]:
    """Every living process whose environment holds `entry`, such as `HOME=/tmp/x`, whoever its parent is."""
    wanted, found = entry.encode(), []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0") and is_running(pid):
                found.append(pid)
    return found


def end_all(find: Callable[[], Sequence[int]], *, limit_s: float = 5.0) -> None:
    """SIGKILL whatever `find` finds, until it finds nothing more."""

    def nothing_left() -> bool:
        found = [pid for pid in find() if is_running(pid)]
        signal_all(found, signal.SIGKILL)
        return not found

    wait_until(nothing_left, limit_s=limit_s, what="killed processes have ended")


class Process:
    """One program, used as a context manager. On exit it and everything it started has ended."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ready_limit_s: float = 30.0,
    ) -> None:
        self._argv = [str(word) for word in argv]
        self._log = log
        self._ready = ready
        self._env = env
        self._cwd = cwd
        self._ready_limit_s = ready_limit_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running program."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What the program wrote to stdout and stderr, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> Self:
        """Start the program and wait until it is ready."""
        assert self._process is None, "already started"
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
            wait_until(self._is_ready, limit_s=self._ready_limit_s, what=f"{self._argv[0]} is ready")
        except BaseException as error:
            self.kill()
            raise ProcessFailed(f"{error}\n{self.stderr}") from error
        return self

    def children(self) -> list[int]:
        """Every living process that the program started, and theirs."""
        return [] if self._process is None else descendants(self._process.pid)

    def freeze(self) -> None:
        """SIGSTOP to the program and all below it: sockets stay open and nobody answers."""
        signal_all([self.pid, *self.children()], signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        signal_all([self.pid, *self.children()], signal.SIGCONT)

    def terminate(self, *, limit_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL to whatever remains."""
        self._end(signal.SIGTERM, limit_s)

    def kill(self) -> None:
        """SIGKILL to the program and all below it."""
        self._end(signal.SIGKILL, 5.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            raise ProcessFailed(f"{self._argv[0]} ended with status {status}")
        return self._ready()

    def _end(self, number: signal.Signals, limit_s: float) -> None:
        if self._process is None:
            return
        self.thaw()  # a stopped process does not take SIGTERM
        left = self.children()
        signal_all([self._process.pid], number)
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(limit_s)
        self._process = None
        end_all(lambda: left, limit_s=limit_s)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]


def _parents() -> list[tuple[int, int]]:
    return [(pid, stat[1]) for pid in _pids() if (stat := _stat(pid)) is not None]


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent of a process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = text.rpartition(")")[2].split()[:2]  # the name before it may hold anything
    return state, int(parent)
