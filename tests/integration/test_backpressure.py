"""Clients that read slowly cost a bounded amount of memory and slow nobody else down, over a real sshd."""

import asyncio
import json
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.helpers.builders import make_row
from tests.helpers.firehose import TOKENS_PER_S, Firehose
from tests.helpers.processes import with_environment
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Client, ScriptedServer
from tests.helpers.scene import CHAT
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.vastapi import VastApi
from vastproxy.services.tunnels.asyncssh_engine import WINDOW_BYTES

MIB = 1 << 20
SLOW = 20
NORMAL = 20
ANSWER_BYTES = 20 * MIB
SLOW_BYTES_PER_S = 20_000
TOKENS = 150
#: What one slow client may cost: a window that is on its way to the client, one that has come in behind it, and the
#: buffers of both connections.
BOUND_PER_CLIENT = 2 * WINDOW_BYTES + MIB // 4
#: Everything else that the process may take meanwhile, the normal streams among it.
BOUND_OF_ALL = 24 * MIB
#: A lag that people would notice. What is measured is 100 times less, on a machine that does nothing else; one that
#: stands still makes a few tokens late, and not most of them.
LAG_P50_S = 0.5
LAG_P99_S = 2.0


class SlowClient:
    """Asks for a long answer and reads it at SLOW_BYTES_PER_S. Its own socket holds next to nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.received = 0

    async def __aenter__(self) -> "SlowClient":
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        self._reader, self._writer = await asyncio.open_connection(sock=connection, limit=4096)
        self._writer.write(b"GET /long/%d HTTP/1.1\r\nhost: proxy.test\r\n\r\n" % ANSWER_BYTES)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def crawl(self) -> None:
        """Read slowly until cancelled."""
        while True:
            self.received += len(await self._reader.read(SLOW_BYTES_PER_S // 10))
            await asyncio.sleep(0.1)

    async def finish(self) -> None:
        """Read the rest as fast as it comes."""
        while self.received < ANSWER_BYTES:
            piece = await self._reader.read(MIB)
            assert piece, f"the answer broke off after {self.received} bytes"
            assert piece.count(b"x") == len(piece)
            self.received += len(piece)


class Watched:
    """A proxy over one machine, and what its process takes."""

    def __init__(self, proxy: ProxyProcess, engine: Firehose, pid: int) -> None:
        self.proxy = proxy
        self.engine = engine
        self._pid = pid

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    async def stream(self) -> tuple[list[float], float]:
        """One streamed answer: how late each token came, and how long all of it took, in seconds."""
        body = json.dumps({"model": "m", "messages": [], "stream": True, "max_tokens": TOKENS}).encode()
        began, lags, text = time.monotonic(), list[float](), b""
        async with Client(self.proxy.port) as client:
            await client.send("POST", CHAT, {"content-type": "application/json"}, body)
            assert (await client.head()).status == 200
            while (piece := await client.piece()) is not None:
                *events, text = (text + piece).split(b"\n\n")
                now = time.monotonic_ns()
                lags += [(now - int(event.removeprefix(b"data: "))) / 1e9 for event in events]
        return lags, time.monotonic() - began


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    key_path = make_key(tmp_path / "id_ed25519")
    sshd, engine = Sshd(tmp_path / "sshd"), Firehose()
    sshd.authorize(key_path)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(VastApi())
        server = await stack.enter_async_context(ScriptedServer(engine))
        await asyncio.to_thread(sshd.start)
        stack.push_async_callback(asyncio.to_thread, sshd.stop)
        api.set_instances(
            [
                make_row(
                    id=1,
                    public_ipaddr="127.0.0.1\n",
                    ports={"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(sshd.port)}]},
                    ssh_host=None,
                    ssh_port=None,
                    extra_env=[["VLLM_ARGS", f"--host 127.0.0.1 --port {server.port}"]],
                )
            ]
        )
        proxy = await stack.enter_async_context(ProxyProcess(tmp_path, api=api, key_path=key_path))
        await proxy.wait_healthy(1)
        [pid] = with_environment(f"HOME={tmp_path}")
        yield Watched(proxy, engine, pid)


async def test_slow_readers_are_bounded_in_memory_and_the_others_do_not_notice(watched: Watched) -> None:
    """20 clients read 20 MiB at 20 KB/s each while 20 others stream.

    The proxy holds at most BOUND_PER_CLIENT for each slow one, the engine is held up instead, every other stream
    is complete, in time, and its tokens are not late. A slow one that wakes up still gets every byte.
    """
    await watched.stream()
    before, peak = watched.rss(), 0
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(SlowClient(watched.proxy.port)) for _ in range(SLOW)]
        loop = asyncio.get_running_loop()
        crawling = [loop.create_task(client.crawl()) for client in slow]
        streaming = loop.create_task(_all_streams(watched))
        while not streaming.done():
            peak = max(peak, watched.rss())
            await asyncio.wait({streaming}, timeout=0.05)
        taken = watched.engine.long_bytes
        for task in crawling:
            task.cancel()
        await asyncio.wait(crawling)
        assert all(task.cancelled() for task in crawling), "a slow answer broke off"
        await slow[0].finish()
    lags, durations = streaming.result()
    assert peak - before <= SLOW * BOUND_PER_CLIENT + BOUND_OF_ALL, f"{(peak - before) / MIB:.0f} MiB more"
    assert taken < SLOW * ANSWER_BYTES * 3 / 4, "the engine was not held up"
    assert len(lags) == NORMAL * TOKENS
    assert statistics.median(lags) < LAG_P50_S
    assert statistics.quantiles(lags, n=100)[98] < LAG_P99_S
    assert max(durations) < TOKENS / TOKENS_PER_S + 4 * LAG_P99_S


async def _all_streams(watched: Watched) -> tuple[list[float], list[float]]:
    ended = await asyncio.gather(*(watched.stream() for _ in range(NORMAL)))
    return [lag for lags, _ in ended for lag in lags], [duration for _, duration in ended]
