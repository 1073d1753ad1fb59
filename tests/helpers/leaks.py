"""What a test left behind: tasks, threads, file descriptors, child processes.

`Snapshot.take()` before and `leaks_since(before)` after. Both read /proc/self and cost well under a
millisecond when nothing leaked; only a suspicion costs a garbage collection and a short wait, because
a thread or a process that was told to end may still be on its way out.
"""

import asyncio
import gc
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")

#: What libraries open once and keep for the life of the process.
KEPT_OPEN = ("/dev/null", "/dev/urandom", "/dev/random")

#: How long something may take to end after the test did, and how often we look. Looks are counted: the time in which
#: the machine stalls, and nothing can end, is not held against anybody.
GRACE_S = float(os.environ.get("TESTS_GRACE_S", "3"))
_LOOK_EVERY_S = 0.01


@dataclass(frozen=True)
class Snapshot:
    """What this process has. Descriptors are known by number and target, so a reused number is seen."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    children: frozenset[int]

    @classmethod
    def take(cls) -> "Snapshot":
        return cls(
            threads=frozenset(threading.enumerate()),
            descriptors=frozenset(_open_descriptors()),
            children=frozenset(_child_processes()),
        )


def _open_descriptors() -> Iterable[tuple[int, str]]:
    for name in os.listdir(_PROC / "fd"):
        try:
            target = os.readlink(_PROC / "fd" / name)
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
        # pytest redirects the standard streams for each phase of a test.
        if int(name) > 2 and target not in KEPT_OPEN and not target.startswith("/proc/"):
            yield int(name), target


def _child_processes() -> Iterable[int]:
    for task in os.listdir(_PROC / "task"):
        try:
            children = (_PROC / "task" / task / "children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that ended meanwhile
        yield from map(int, children.split())


def _command_line(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return b" ".join(words).decode(errors="replace").strip() or "ended, but nobody waited for it"


def _differences(before: Snapshot) -> list[str]:
    now = Snapshot.take()
    lines = [f"thread {thread.name!r}" for thread in now.threads - before.threads if thread.is_alive()]
    lines += [
        f"file descriptor {number}: {target}" for number, target in now.descriptors - before.descriptors
    ]
    lines += [f"child process {pid}: {_command_line(pid)}" for pid in now.children - before.children]
    return sorted(lines)


def leaks_since(before: Snapshot, *, grace_s: float = GRACE_S) -> list[str]:
    """One line for each thread, descriptor and child process that is new and does not go away."""
    if not _differences(before):
        return []
    gc.collect()  # closes a socket in a reference cycle, which warns by itself
    pause = threading.Event()
    for _ in range(_looks(grace_s)):
        if not (found := _differences(before)):
            return []
        pause.wait(_LOOK_EVERY_S)
    return found


def _looks(grace_s: float) -> int:
    return max(1, round(grace_s / _LOOK_EVERY_S))


async def leaked_tasks(before: Iterable["asyncio.Task[object]"], *, grace_s: float = GRACE_S) -> list[str]:
    """One line for each task of the running loop that is not in `before` and does not end by itself."""
    known = {*before, asyncio.current_task()}
    new = asyncio.all_tasks() - known
    for _ in range(_looks(grace_s)):
        if new:
            _, new = await asyncio.wait(new, timeout=_LOOK_EVERY_S)
    return sorted(f"task {task.get_name()!r} at {_where(task)}" for task in new)


def _where(task: "asyncio.Task[object]") -> str:
    if not (stack := task.get_stack(limit=1)):
        return "no frame"
    code = stack[-1].f_code
    return f"{code.co_filename}:{stack[-1].f_lineno} in {code.co_qualname}"


def report(leaks: Iterable[str]) -> str:
    """The message of a test that left something behind."""
    return "this test left behind:\n" + "\n".join(f"  - {leak}" for leak in leaks)
