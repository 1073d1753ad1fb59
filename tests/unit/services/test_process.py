"""What a process says of itself is what the system says, and nothing where the system says nothing."""

import asyncio
import os
import threading
from pathlib import Path

from vastproxy.services.process import read_process_use


async def test_it_counts_what_there_is() -> None:
    """Memory, descriptors, threads and tasks of this very process; one more file is one more descriptor."""
    threads = threading.active_count()
    before = read_process_use()
    threads_then = threading.active_count()
    descriptor = os.open(os.devnull, os.O_RDONLY)
    more = read_process_use()
    os.close(descriptor)
    assert before.pid == os.getpid()
    assert before.rss_bytes is not None
    assert 5_000_000 < before.rss_bytes < 10_000_000_000
    assert before.fds is not None
    assert more.fds == before.fds + 1
    assert threads >= before.threads >= threads_then, "those of others may end meanwhile"
    assert before.tasks == len(asyncio.all_tasks())
    assert set(before.to_json()) == {"pid", "rss_bytes", "fds", "threads", "tasks"}


async def test_without_proc_it_does_not_guess(tmp_path: Path) -> None:
    """Where /proc is not there, or not Linux's, what only it knows is unknown."""
    use = read_process_use(tmp_path)
    assert (use.rss_bytes, use.fds) == (None, None)
    (tmp_path / "statm").write_text("nonsense")
    assert read_process_use(tmp_path).rss_bytes is None
