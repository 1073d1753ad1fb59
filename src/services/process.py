"""What this process takes of its machine: for monitoring, and so that a leak can be seen from outside."""

import asyncio
import contextlib
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from vastproxy.services import deadline


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """`rss_bytes` and `fds` are None where the system does not tell (/proc, Linux)."""

    pid: int
    rss_bytes: int | None
    fds: int | None
    threads: int
    tasks: int

    def to_json(self) -> dict[str, int | None]:
        """Its fields by name."""
        return asdict(self)


def read_process_use(proc: Path = Path("/proc/self")) -> ProcessUse:
    """As it is now; `tasks` of the running event loop."""
    rss_bytes = fds = None
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc(5): the second number of statm is the resident set, in pages
        rss_bytes = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        fds = len(os.listdir(proc / "fd")) - 1  # less the one that reads the folder
    return ProcessUse(os.getpid(), rss_bytes, fds, threading.active_count(), len(asyncio.all_tasks()))


def is_compiled() -> bool:
    """Is the path of a request machine code in this build? See setup.py."""
    return not deadline.__file__.endswith(".py")
