"""What each SSH engine costs: `python -m bench.ssh_engines [--json] [--engine NAME]... [WORK ...]`.

The same streams over `asyncssh`, over `sshtunnel`, and through OpenSSH's own client (`ssh -N -L`, as `openssh`), to
one sshd per work with the peer of `bench.ssh_peer` behind it. The peer and sshd run on core 0; this process, its
threads and OpenSSH's client run on core 1. CPU is user and system time of this process, and of OpenSSH's
client where that carries the streams, divided by what was done. Each work takes a few seconds.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.ssh_channel import Client, Figures, Plain, percentile, started
from tests.helpers.ssh_engines import ENGINES, tunnel_over
from tests.helpers.sshd import Sshd

OPENSSH = "openssh"
NAMES = (*ENGINES, OPENSSH)
#: How long a steady work runs.
STEADY_S = 4.0


class Meter:
    """CPU and wall time since `start`, of this process and of helpers that carry its streams."""

    def __init__(self, helpers: Sequence[int] = (), *, stat_of: Callable[[int], str] | None = None) -> None:
        """`stat_of` reads /proc/PID/stat."""
        self._helpers = tuple(helpers)
        self._stat_of = stat_of or (lambda pid: Path(f"/proc/{pid}/stat").read_text())
        self.start()

    def start(self) -> None:
        """Begin anew."""
        gc.collect()
        self._cpu_s, self._wall_ns = self._spent_s(), time.monotonic_ns()

    def cpu_us(self, count: float) -> float:
        """CPU per thing done, in microseconds."""
        return (self._spent_s() - self._cpu_s) * 1e6 / count

    def wall_s(self) -> float:
        return (time.monotonic_ns() - self._wall_ns) / 1e9

    def _spent_s(self) -> float:
        ticks_per_s = os.sysconf("SC_CLK_TCK")
        helpers = sum(cpu_ticks(self._stat_of(pid)) for pid in self._helpers)
        return time.process_time() + helpers / ticks_per_s


def cpu_ticks(stat: str) -> int:
    """User and system time in a text of /proc/PID/stat (proc(5), fields 14 and 15), in clock ticks. Pure."""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return int(fields[11]) + int(fields[12])


async def tokens(tunnel: Any, port: int, meter: Meter, *, streams: int = 50) -> Figures:
    """Chunks of 300 bytes, 30 a second on each stream; how old they are when they come."""
    clients = [await tunnel.open(lambda: Client("push 300 0.0333"), port) for _ in range(streams)]
    await asyncio.sleep(0.5)
    for client in clients:
        client.pieces, client.ages = 0, []
    threads = threading.active_count()
    meter.start()
    await asyncio.sleep(STEADY_S)
    pieces = sum(client.pieces for client in clients)
    figures = {"us_per_token": meter.cpu_us(pieces), "per_s": pieces / meter.wall_s()}
    ages = [age for client in clients for age in client.ages or ()]
    for client in clients:
        client.stream.close()
    return {
        **figures,
        "lag_p50_ms": percentile(ages, 0.5),
        "lag_p99_ms": percentile(ages, 0.99),
        "threads": threads,
    }


async def many(tunnel: Any, port: int, meter: Meter) -> Figures:
    """Tokens on 300 streams."""
    return await tokens(tunnel, port, meter, streams=300)


async def download(
    tunnel: Any, port: int, meter: Meter, *, size: int = 20_000_000, times: int = 4
) -> Figures:
    """Answers of 20 MB, one after the other."""
    meter.start()
    for _ in range(times):
        client = await tunnel.open(lambda: Client(f"blob {size}"), port)
        await client.answered(size)
        client.stream.close()
    mb = size * times / 1e6
    return {"us_per_mb": meter.cpu_us(mb), "mb_per_s": mb / meter.wall_s()}


async def upload(tunnel: Any, port: int, meter: Meter, *, size: int = 1_000_000, times: int = 50) -> Figures:
    """Prompts of 1 MB, each written at once, and a short answer."""
    client = await tunnel.open(lambda: Client(f"reply {size} 16"), port)
    prompt = os.urandom(size)
    meter.start()
    for number in range(times):
        client.stream.write(prompt)
        await client.answered(16 * (number + 1))
    mb = size * times / 1e6
    figures = {"us_per_mb": meter.cpu_us(mb), "mb_per_s": mb / meter.wall_s()}
    client.stream.close()
    return figures


async def opening(tunnel: Any, port: int, meter: Meter, *, count: int = 300) -> Figures:
    """A fresh stream, 1 KB there and 1 KB back, its end; one after the other."""
    question = b"q" * 1024
    meter.start()
    for _ in range(count):
        client = await tunnel.open(lambda: Client("reply 1024 1024"), port)
        client.stream.write(question)
        await client.answered(1024)
        client.stream.close()
    return {"us_per_stream": meter.cpu_us(count), "ms_each": meter.wall_s() * 1000 / count}


async def idle(tunnel: Any, port: int, meter: Meter) -> Figures:
    """A connection over which one stream has gone, at rest."""
    client = await tunnel.open(lambda: Client("reply 1 1"), port)
    client.stream.write(b"x")
    await client.answered(1)
    client.stream.close()
    await asyncio.sleep(0.5)
    meter.start()
    await asyncio.sleep(STEADY_S)
    return {"us_per_s": meter.cpu_us(STEADY_S), "threads": threading.active_count()}


Work = Callable[[Any, int, Meter], Coroutine[Any, Any, Figures]]
WORKS: dict[str, Work] = {
    "tokens": tokens,
    "many": many,
    "download": download,
    "upload": upload,
    "opening": opening,
    "idle": idle,
}


@contextlib.asynccontextmanager
async def connection(name: str) -> AsyncIterator[tuple[Any, int, Meter]]:
    """Something with a tunnel's `open`, the port to open, and the meter of what carries it."""
    with started() as (sshd, port):
        if name == OPENSSH:
            with openssh(sshd, port) as (local, pid):
                yield Plain(), local, Meter([pid])
        else:
            async with tunnel_over(name, sshd) as tunnel:
                yield tunnel, port, Meter()


@contextlib.contextmanager
def openssh(sshd: Sshd, port: int) -> Any:
    """`ssh -N -L`: the local port that leads to `port` inside, and the client's process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = probe.getsockname()[1]
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    options += ["ExitOnForwardFailure=yes", "IdentitiesOnly=yes"]
    argv = ["ssh", "-F", "none", "-N", "-i", str(sshd.client_key_path), "-p", str(sshd.port)]
    argv += [word for option in options for word in ("-o", option)]
    argv += ["-L", f"127.0.0.1:{local}:127.0.0.1:{port}", f"{sshd.username}@127.0.0.1"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as client:
        try:
            _wait_for(local, client)
            yield local, client.pid
        finally:
            client.kill()


def _wait_for(port: int, client: "subprocess.Popen[bytes]", *, limit_s: float = 10.0) -> None:
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up and client.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        threading.Event().wait(0.05)
    raise SystemExit("ssh -L does not listen")


def as_line(engine: str, work: str, figures: Figures) -> str:
    """One result for a person. Pure."""
    return f"{engine:10} {work:10} " + "  ".join(f"{name}={value:,.2f}" for name, value in figures.items())


async def measure(engines: Sequence[str], works: Sequence[str], *, as_json: bool) -> None:
    """Run the works over each engine in turn, each on a connection of its own."""
    found: dict[str, dict[str, Figures]] = {engine: {} for engine in engines}
    for work in works:
        for engine in engines:
            async with connection(engine) as (tunnel, port, meter):
                found[engine][work] = await WORKS[work](tunnel, port, meter)
            if not as_json:
                sys.stdout.write(as_line(engine, work, found[engine][work]) + "\n")
                sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--engine", action="append", choices=NAMES, dest="engines", help="default: all")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    uvloop.run(measure(given.engines or NAMES, given.works or list(WORKS), as_json=given.json))


if __name__ == "__main__":
    main()
