"""`vastproxy serve` with a log file: moved, rotated, on a full disk, and told to look at it again."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.logging_proxy import LIMIT_S, Start, starting
from tests.helpers.proxy_process import FAST, environment

REQUESTS = 150


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async with starting(tmp_path) as start:
        yield start


async def test_a_log_file_that_was_moved_is_made_again(start: Start, tmp_path: Path) -> None:
    """As by logrotate without `postrotate`: nobody tells the proxy."""
    path, moved = tmp_path / "proxy.log", tmp_path / "proxy.log-20260131"
    proxy = await start(asyncio.subprocess.DEVNULL, VASTPROXY_LOGGING__FILE=str(path))
    await proxy.ask(20)
    await written(path, "request-0019")
    path.rename(moved)
    await proxy.ask(20)
    assert await proxy.end(signal.SIGTERM) < 8
    assert proxy.logged(read(moved)) == proxy.asked[:20]
    assert proxy.logged(read(path)) == proxy.asked[20:]


async def test_a_log_file_is_rotated_while_it_is_written(start: Start, tmp_path: Path) -> None:
    limits = {"VASTPROXY_LOGGING__MAX_BYTES": "8000", "VASTPROXY_LOGGING__KEEP": "50"}
    path = tmp_path / "proxy.log"
    proxy = await start(asyncio.subprocess.DEVNULL, VASTPROXY_LOGGING__FILE=str(path), **limits)
    await proxy.ask(REQUESTS)
    assert await proxy.end(signal.SIGTERM) < 8
    texts = [*map(read, numbered(path)), read(path)]
    assert len(texts) > 2
    assert max(map(len, texts)) <= 8000
    assert proxy.logged(b"".join(texts)) == proxy.asked


async def test_a_hangup_reads_the_level_again(start: Start, tmp_path: Path) -> None:
    path, dotenv = tmp_path / "proxy.log", tmp_path / ".env"
    dotenv.write_text("VASTPROXY_LOGGING__LEVEL=warning\n")
    proxy = await start(asyncio.subprocess.DEVNULL, VASTPROXY_LOGGING__FILE=str(path))
    await proxy.ask(5)
    dotenv.write_text("VASTPROXY_LOGGING__LEVEL=no such level\n")
    proxy.process.send_signal(signal.SIGHUP)
    await written(path, "the log's level stays as it was: logging.level")
    dotenv.write_text("VASTPROXY_LOGGING__LEVEL=info\n")
    proxy.process.send_signal(signal.SIGHUP)
    await written(path, "logging.level is info")
    async with asyncio.timeout(LIMIT_S):
        while not proxy.logged(read(path)):  # it looks once a second
            await proxy.ask(1)
            await asyncio.sleep(0.02)
    await proxy.ask(5)
    assert await proxy.end(signal.SIGTERM) < 8
    logged = proxy.logged(read(path))
    assert logged == proxy.asked[-len(logged) :]
    assert 5 < len(logged) <= len(proxy.asked) - 5


async def test_a_proxy_whose_terminal_has_gone_ends_with_it(start: Start) -> None:
    """Politely; as the shell's SIGHUP ended it before it meant anything else."""
    ours, theirs = os.openpty()
    try:
        proxy = await start(theirs)
    finally:
        os.close(theirs)
    await proxy.ask(1)
    os.close(ours)
    assert await proxy.end(signal.SIGHUP) < 8


async def test_a_full_disk_under_the_log_file_does_not_matter(start: Start) -> None:
    proxy = await start(asyncio.subprocess.DEVNULL, VASTPROXY_LOGGING__FILE="/dev/full")
    await proxy.ask(REQUESTS)
    assert await proxy.end(signal.SIGTERM) < 8


async def test_a_log_file_that_cannot_be_written_is_one_line_and_no_start(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vastproxy", "serve"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path, **FAST, VASTPROXY_LOGGING__FILE=str(tmp_path / "no" / "log")),
        cwd=tmp_path,
    )
    async with asyncio.timeout(LIMIT_S):
        _, output = await process.communicate()
    assert process.returncode != 0
    assert output.count(b"\n") == 1
    assert b"logging.file" in output


async def written(path: Path, text: str) -> None:
    """Until the process has written this."""
    async with asyncio.timeout(LIMIT_S):
        while text.encode() not in read(path):
            await asyncio.sleep(0.02)


def read(path: Path) -> bytes:
    """What is in it; nothing while it is not there."""
    return path.read_bytes() if path.exists() else b""


def numbered(path: Path) -> list[Path]:
    """Its older files, the oldest first."""
    return sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.name.rpartition(".")[2]))
