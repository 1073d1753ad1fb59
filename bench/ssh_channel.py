"""What bytes over our SSH channels cost on our side: `python -m bench.ssh_channel [--stock] [--json] [WORK ...]`.

A real OpenSSH sshd and the peer behind it run on core 0, this process on core 1. CPU is this process's own
(user and system), divided by what was done. `--stock` measures asyncssh as it is, `--plain` TCP without SSH.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvloop

from tests.helpers.sshd import Sshd
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import Path as SshPath
from vastproxy.services.tunnels.base import SshAddress, Stream, Tunnel, TunnelTarget
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keys import load_client_keys
from vastproxy.settings.model import TunnelSettings

Figures = dict[str, float]
PEER_CORE, OUR_CORE = {0}, {1}


class Plain:
    """A tunnel's `open` over plain TCP: what is left when SSH costs nothing."""

    async def open(self, factory: Callable[[], Any], port: int) -> Any:
        _, protocol = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
        return protocol


class Client(asyncio.Protocol):
    """Our end of a stream: counts, and keeps how old pushed chunks were."""

    def __init__(self, want: str) -> None:
        self._want = want.encode() + b"\n"
        self.stream: Stream
        self.pieces = 0
        self.received = 0
        self.awaited = 0
        self.ages: list[int] | None = None
        self.on_answer: Callable[[], None] = lambda: None
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: Any) -> None:
        self.stream = transport
        transport.write(self._want)

    def data_received(self, data: bytes) -> None:
        self.pieces += 1
        self.received += len(data)
        if self.ages is not None:
            self.ages.append(time.monotonic_ns() - int.from_bytes(data[:8], "big"))
        if self.awaited and self.received >= self.awaited:
            self.on_answer()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def answered(self, count: int) -> None:
        """Wait until `count` bytes in all have come."""
        if self.received < count:
            done = asyncio.Event()
            self.awaited, self.on_answer = count, done.set
            await done.wait()
            self.awaited = 0


class Clock:
    """CPU and wall time between two moments."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu, self._wall = time.process_time_ns(), time.monotonic_ns()

    def cpu_us(self, count: float) -> float:
        """CPU since the beginning, per thing done."""
        return (time.process_time_ns() - self._cpu) / 1000 / count

    def wall_s(self) -> float:
        return (time.monotonic_ns() - self._wall) / 1e9


def percentile(values: list[int], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1e6


async def tokens(tunnel: Any, port: int, streams: int = 400, blob: bool = False) -> Figures:
    """Chunks of 300 bytes, 30 a second on each stream; optionally a 20 MB answer at the same time, over and over."""
    clients = [await tunnel.open(lambda: Client("push 300 0.0333"), port) for _ in range(streams)]
    await asyncio.sleep(0.5)
    for client in clients:
        client.pieces, client.ages = 0, []
    clock = Clock()
    if blob:
        while clock.wall_s() < 4:
            client = await tunnel.open(lambda: Client("blob 20000000"), port)
            await client.answered(20_000_000)
            client.stream.close()
    else:
        await asyncio.sleep(4)
    pieces = sum(client.pieces for client in clients)
    cpu_us = clock.cpu_us(pieces)
    ages = [age for client in clients for age in client.ages or ()]
    for client in clients:
        client.stream.close()
    lags = {"lag_p50_ms": percentile(ages, 0.5), "lag_p99_ms": percentile(ages, 0.99)}
    return lags if blob else {"us_per_packet_in": cpu_us, "rate": pieces / clock.wall_s(), **lags}


async def mixed(tunnel: Any, port: int) -> Figures:
    """Tokens while answers of 20 MB come over the same connection."""
    return await tokens(tunnel, port, blob=True)


async def sending(tunnel: Any, port: int, streams: int = 64, rate: int = 12_000) -> Figures:
    """Chunks of 300 bytes up, `rate` a second over all streams, each a packet."""
    clients = [await tunnel.open(lambda: Client("sink"), port) for _ in range(streams)]
    chunk, sent, clock = b"x" * 300, 0, Clock()
    while clock.wall_s() < 4:
        due = int(clock.wall_s() * rate)
        while sent < due:
            clients[sent % streams].stream.write(chunk)
            sent += 1
        await asyncio.sleep(0.001)
    figures = {"us_per_packet_out": clock.cpu_us(sent), "rate": sent / clock.wall_s()}
    for client in clients:
        client.stream.close()
    return figures


async def requests(tunnel: Any, port: int, streams: int = 32, count: int = 20_000) -> Figures:
    """1 KB up and 1 KB down on streams that stay open."""
    clients = [await tunnel.open(lambda: Client("reply 1024 1024"), port) for _ in range(streams)]
    finished = asyncio.get_running_loop().create_future()
    begun = answered = 0
    question = b"q" * 1024

    def ask(client: Client) -> None:
        nonlocal begun
        begun += 1
        client.awaited = client.received + 1024
        client.stream.write(question)

    def on_answer(client: Client) -> None:
        nonlocal answered
        answered += 1
        if begun < count:
            ask(client)
        elif answered == count:
            finished.set_result(None)

    clock = Clock()
    for client in clients:
        client.on_answer = lambda client=client: on_answer(client)
        ask(client)
    await finished
    figures = {"us_per_request": clock.cpu_us(count), "rate": count / clock.wall_s()}
    for client in clients:
        client.stream.close()
    return figures


async def opening(tunnel: Any, port: int, count: int = 3_000) -> Figures:
    """A fresh channel, its line, its end; 16 at a time."""
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            client = await tunnel.open(lambda: Client("sink"), port)
            client.stream.close()

    clock = Clock()
    await asyncio.gather(*(work() for _ in range(16)))
    await asyncio.sleep(0.1)
    cpu_us = clock.cpu_us(count)
    alone = Clock()
    for _ in range(200):
        (await tunnel.open(lambda: Client("sink"), port)).stream.close()
    return {"us_per_open_close": cpu_us, "ms_to_open": alone.wall_s() * 1000 / 200}


async def download(tunnel: Any, port: int, size: int = 20_000_000, times: int = 8) -> Figures:
    """Answers of 20 MB, one after the other."""
    clock, pieces = Clock(), 0
    for _ in range(times):
        client = await tunnel.open(lambda: Client(f"blob {size}"), port)
        await client.answered(size)
        pieces += client.pieces
        client.stream.close()
    mb = size * times / 1e6
    return {
        "us_per_mb_in": clock.cpu_us(mb),
        "mb_per_s": mb / clock.wall_s(),
        "kb_per_piece": mb * 1000 / pieces,
    }


async def upload(tunnel: Any, port: int, size: int = 1_000_000, times: int = 100) -> Figures:
    """Prompts of 1 MB, each written at once, and a short answer."""
    client = await tunnel.open(lambda: Client(f"reply {size} 16"), port)
    prompt, clock = os.urandom(size), Clock()
    for number in range(times):
        client.stream.write(prompt)
        await client.answered(16 * (number + 1))
    mb = size * times / 1e6
    figures = {"us_per_mb_out": clock.cpu_us(mb), "mb_per_s": mb / clock.wall_s()}
    client.stream.close()
    return figures


async def memory(tunnel: Any, port: int, streams: int = 5_000) -> Figures:
    """Open channels that do nothing, then after each has carried some tokens."""
    gc.collect()
    before = _rss()
    clients: list[Client] = []
    for _ in range(streams // 100):
        clients += await asyncio.gather(
            *(tunnel.open(lambda: Client("push 300 1"), port) for _ in range(100))
        )
    gc.collect()
    idle = _rss()
    await asyncio.sleep(3)
    gc.collect()
    streaming = _rss()
    for client in clients:
        client.stream.close()
    return {"idle_bytes": (idle - before) / streams, "streaming_bytes": (streaming - before) / streams}


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


Work = Callable[[Any, int], Coroutine[Any, Any, Figures]]
WORKS: dict[str, Work] = {
    "tokens": tokens,
    "mixed": mixed,
    "sending": sending,
    "requests": requests,
    "opening": opening,
    "download": download,
    "upload": upload,
    "memory": memory,
}


@contextlib.contextmanager
def started() -> Iterator[tuple[Sshd, int]]:
    """An sshd and the peer behind it on their core; the peer's port."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        os.sched_setaffinity(0, PEER_CORE)  # what we start inherits it
        argv = [sys.executable, "-m", "bench.ssh_peer"]
        peer = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        stack.callback(peer.kill)
        sshd = stack.enter_context(Sshd(Path(directory)))
        os.sched_setaffinity(0, OUR_CORE)
        assert peer.stdout is not None
        yield sshd, int(peer.stdout.readline())


@contextlib.asynccontextmanager
async def connection(*, plain: bool, stock: bool) -> AsyncIterator[tuple[Tunnel | Plain, int]]:
    """A tunnel to an sshd of its own, and the port of the peer behind it."""
    with started() as (sshd, port):
        if plain:
            yield Plain(), port
            return
        settings = TunnelSettings(key_path=str(sshd.client_key_path))
        keys = load_client_keys(settings, home=None)
        engine = AsyncsshEngine(
            settings,
            keys=keys,
            host_keys=PinnedHostKeys(HostKeyPins(None)),
            username=sshd.username,
            fast=False if stock else None,
        )
        address = SshAddress("127.0.0.1", sshd.port, SshPath.DIRECT)
        tunnel = await engine.connect(TunnelTarget(1, "1@1", (address,)), address)
        try:
            yield tunnel, port
        finally:
            await tunnel.close()


async def measure(names: list[str], *, plain: bool, stock: bool, as_json: bool) -> None:
    """Run the works one after the other, each on a connection of its own."""
    found: dict[str, Figures] = {}
    for name in names:
        async with connection(plain=plain, stock=stock) as (tunnel, port):
            found[name] = await WORKS[name](tunnel, port)
        if not as_json:
            line = "  ".join(f"{key}={value:,.2f}" for key, value in found[name].items())
            sys.stdout.write(f"{name:10} {line}\n")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--plain", action="store_true", help="TCP without SSH")
    parser.add_argument("--stock", action="store_true", help="asyncssh without our fast path")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    uvloop.run(measure(given.works or list(WORKS), plain=given.plain, stock=given.stock, as_json=given.json))


if __name__ == "__main__":
    main()
