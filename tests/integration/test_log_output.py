"""Standard error may be slow, full, broken or closed: `vastproxy serve` answers, and ends, as if it were not."""

import asyncio
import fcntl
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.logging_proxy import LIMIT_S, Start, starting
from tests.helpers.proxy_process import environment

#: From <fcntl.h> of Linux; one page is the least a pipe can hold.
PIPE_BYTES = 4096
REQUESTS = 150


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with starting(tmp_path) as start:
        yield start


class SmallPipe:
    """A pipe of one page. `read` gets what comes until it ends."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.capacity = fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def close_reading(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
            self.reading = -1

    def close_writing(self) -> None:
        """Once the process has its own."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def read(self) -> bytes:
        output = b""
        while piece := os.read(self.reading, 1 << 16):
            output += piece
        return output


@pytest.fixture
async def pipe() -> AsyncIterator[SmallPipe]:
    pipe = SmallPipe()
    yield pipe
    pipe.close_writing()
    pipe.close_reading()


async def test_while_nobody_reads_requests_are_answered_and_no_line_is_lost(
    start: Start, pipe: SmallPipe
) -> None:
    """The reader comes back after the last answer, and finds a line for each request, in order."""
    proxy = await start(pipe.writing)
    pipe.close_writing()
    await proxy.ask(REQUESTS)
    reader = asyncio.to_thread(pipe.read)
    _, output = await asyncio.gather(proxy.end(signal.SIGTERM), reader)
    assert proxy.logged(output) == proxy.asked
    assert len(output) > 2 * pipe.capacity
    assert output.splitlines()[-1].endswith(b"closing tunnels")


async def test_a_pipe_that_nobody_ever_reads_does_not_hold_up_the_end(start: Start, pipe: SmallPipe) -> None:
    proxy = await start(pipe.writing)
    pipe.close_writing()
    await proxy.ask(REQUESTS)
    assert await proxy.end(signal.SIGTERM) < 8


async def test_a_second_signal_writes_what_there_is(start: Start, pipe: SmallPipe) -> None:
    proxy = await start(pipe.writing)
    pipe.close_writing()
    reader = asyncio.get_running_loop().run_in_executor(None, pipe.read)
    await proxy.ask(REQUESTS)
    await proxy.end(signal.SIGTERM, signal.SIGTERM)
    assert proxy.logged(await reader) == proxy.asked


async def test_a_reader_that_has_gone_is_not_missed(start: Start, pipe: SmallPipe) -> None:
    proxy = await start(pipe.writing)
    pipe.close_writing()
    pipe.close_reading()
    await proxy.ask(REQUESTS)
    assert await proxy.end(signal.SIGTERM) < 8


async def test_a_full_disk_does_not_matter(start: Start) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        proxy = await start(full)
    finally:
        os.close(full)
    await proxy.ask(REQUESTS)
    assert await proxy.end(signal.SIGTERM) < 8


async def test_without_standard_error_nothing_is_written_anywhere(start: Start) -> None:
    """Descriptor 2 is taken, so that no socket becomes what others write complaints to."""
    proxy = await start(asyncio.subprocess.DEVNULL, ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh"])
    await proxy.ask(REQUESTS)
    assert os.readlink(f"/proc/{proxy.process.pid}/fd/2") == os.devnull
    assert await proxy.end(signal.SIGTERM) < 8


ENDS = {
    "returning": "pass",
    "sys.exit": "raise SystemExit(0)",
    "an interrupt": "raise KeyboardInterrupt",
    "an error": "raise ValueError('the end')",
}


@pytest.mark.parametrize("end", ENDS)
async def test_however_a_process_ends_its_lines_are_written(tmp_path: Path, end: str) -> None:
    """Without anybody having closed the log, and with a thread that is still busy."""
    program = f"""
import logging, threading
from vastproxy.cli.logs import set_up_logging
from vastproxy.settings.logs import LoggingSettings
set_up_logging(LoggingSettings(format="text"))
threading.Thread(target=threading.Event().wait, daemon=True).start()
for number in range(5000):
    logging.getLogger("vastproxy").info("line %d", number)
{ENDS[end]}
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path),
        cwd=tmp_path,
    )
    async with asyncio.timeout(LIMIT_S):
        _, output = await process.communicate()
    numbers = re.findall(r" info    line (\d+)$", output.decode(), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(5000))
