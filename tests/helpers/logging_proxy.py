"""`vastproxy serve` on an empty account, whose log is the test's own affair."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.helpers.ports import free_port
from tests.helpers.proxy_process import FAST, environment
from tests.helpers.raw import Client
from tests.helpers.scene import CHAT, chat
from tests.helpers.sshd import make_key
from tests.helpers.vastapi import VastApi

LIMIT_S = 45.0

Start = Callable[..., Awaitable["Proxy"]]


class Proxy:
    """A proxy of an empty account, whose standard error is the test's own affair."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.asked: list[str] = []

    async def ask(self, count: int) -> None:
        """So many requests on one connection, each answered: with 503, for there are no backends."""
        async with asyncio.timeout(LIMIT_S), Client(self.port) as client:
            for _ in range(count):
                name = f"request-{len(self.asked):04}"
                request = chat()
                answer = await client.ask(
                    "POST", CHAT, {**request["headers"], "x-request-id": name}, request["body"]
                )
                assert answer.status == 503
                self.asked.append(name)

    async def end(self, *signals: signal.Signals) -> float:
        """Send the signals and wait for the good end; how long that took."""
        began = time.monotonic()
        for number in signals:
            self.process.send_signal(number)
        async with asyncio.timeout(LIMIT_S):
            assert await self.process.wait() == 0
        return time.monotonic() - began

    def logged(self, output: bytes) -> list[str]:
        """The ids in the lines of the access log."""
        return re.findall(rf"^\S+ \S+ info    (request-\d+) POST {CHAT} .*503", output.decode(), re.MULTILINE)


@contextlib.asynccontextmanager
async def starting(tmp_path: Path) -> AsyncIterator[Start]:
    """How to start one, with its home in `tmp_path`. All have ended when this ends."""
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(VastApi())
        port = free_port()
        variables = {
            "LISTEN_ADDR": f"127.0.0.1:{port}",
            "VAST_URL": api.url,
            "VAST_API_KEY": api.account.api_key,
            "SSH_KEY_PATH": str(make_key(tmp_path / "id_ed25519")),
            "VASTPROXY_TUNNELS__STATE_DIR": str(tmp_path / "state"),
        }

        async def start(stderr: int, prefix: Sequence[str] = (), **more: str) -> Proxy:
            process = await asyncio.create_subprocess_exec(
                *(*prefix, sys.executable, "-m", "vastproxy", "serve"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env=environment(tmp_path, **FAST, **variables, **more),
                cwd=tmp_path,
            )
            stack.push_async_callback(killed, process)
            await accepting(process, port)
            return Proxy(process, port)

        yield start


async def killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def accepting(process: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while process.returncode is None:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)
    pytest.fail(f"it ended with {process.returncode} before it listened")
