"""Slow readers: what do they cost, and do the others notice? `python -m bench.backpressure`.

200 clients read long answers of 50 MB at 1 KB/s each while 200 others stream, through one `vastproxy serve` over
two real OpenSSH servers. The others are measured three times: alone; while the slow ones begin, when every buffer on
the way fills at full speed, which is 1 to 2 GB; and beside them from then on. Memory is the highest resident memory
of the proxy meanwhile, less that before the slow ones came. Prints a table and one line of JSON.
"""

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from bench.asked_engine import asked_engines
from bench.console import say
from bench.contenders.base import Running
from bench.contenders.vastproxy import start
from bench.machine import describe_machine, raise_file_limit
from bench.measure import SseLoad
from bench.processes import BenchError, cpu_ns, rss_bytes
from bench.soak_client import question

#: Tokens a second of each stream: what the engine does unless told otherwise.
_RATE = 30.0
_RAMP_S = 1.0
_RECEIVE_BUFFER = 8 * 1024
_LOOK_EVERY_S = 0.1


class SlowReaders:
    """Clients that ask for a long answer and read it slowly, until the block ends."""

    def __init__(self, port: int, count: int, answer_bytes: int, bytes_per_s: int) -> None:
        self._port = port
        self._count = count
        self._request = question(answer_bytes=answer_bytes)
        self._bytes_per_s = bytes_per_s
        self.broken = 0
        self.received = 0

    async def __aenter__(self) -> "SlowReaders":
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            # The kernel must not read ahead on the client's behalf.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", self._port))
            await loop.sock_sendall(connection, self._request)
            while data := await loop.sock_recv(connection, self._bytes_per_s):
                self.received += len(data)
                await asyncio.sleep(len(data) / self._bytes_per_s)
            self.broken += 1


async def stream_beside(
    running: Running, directory: Path, arguments: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """The normal streams for a while: how late their tokens are, what they cost, and the proxy's highest memory."""
    tokens = round((seconds + _RAMP_S + 2.0) * _RATE)
    peak = 0
    with SseLoad(directory, running.url, arguments.streams, tokens=tokens, ramp_s=_RAMP_S) as load:
        await asyncio.to_thread(load.expect, "open", limit_s=60)
        cpu, began = cpu_ns(running.pids()), time.monotonic()
        load.tell("begin")
        while time.monotonic() - began < seconds:
            peak = max(peak, rss_bytes(running.pids()))
            await asyncio.sleep(_LOOK_EVERY_S)
        load.tell("end")
        window = await asyncio.to_thread(load.expect, "window", limit_s=20)
        cpu = cpu_ns(running.pids()) - cpu
        load.tell("finish")
        finished = await asyncio.to_thread(load.expect, "finished", limit_s=60)
    return {
        "lag": window["lag"],
        "tokens_per_s": round(window["tokens"] / window["seconds"], 1),
        "cpu_us_per_token": round(cpu / 1000 / max(1, window["tokens"]), 2),
        "complete": finished["complete"],
        "broken": sum(finished["broken"].values()) + finished["unfinished"],
        "broken_by": finished["broken"],
        "peak_rss_mb": round(peak / 1e6, 1),
    }


async def measure(arguments: argparse.Namespace, directory: Path, running: Running) -> dict[str, Any]:
    """Alone, then beside the slow ones."""
    alone = await stream_beside(running, directory, arguments, arguments.seconds)
    say(f"alone: {alone}")
    before = rss_bytes(running.pids())
    port = int(running.url.rpartition(":")[2])
    async with SlowReaders(port, arguments.slow, arguments.answer_bytes, arguments.bytes_per_s) as slow:
        beginning = await stream_beside(running, directory, arguments, arguments.seconds)
        say(f"while {arguments.slow} slow readers begin: {beginning}")
        beside = await stream_beside(running, directory, arguments, arguments.seconds)
        broken, received = slow.broken, slow.received
    say(f"beside them: {beside}")
    growth = max(beginning["peak_rss_mb"], beside["peak_rss_mb"]) * 1e6 - before
    return {
        "bench": "backpressure",
        "streams": arguments.streams,
        "slow": arguments.slow,
        "slow_bytes_per_s": arguments.bytes_per_s,
        "answer_bytes": arguments.answer_bytes,
        "alone": alone,
        "beginning": beginning,
        "beside": beside,
        "slow_broken": broken,
        "slow_received_bytes": received,
        "memory_growth_mb": round(growth / 1e6, 1),
        "memory_kb_per_slow": round(growth / 1e3 / arguments.slow, 1),
        "machine": describe_machine(),
    }


def table(figures: dict[str, Any]) -> str:
    """For people."""
    phases = ("alone", "beginning", "beside")
    lines = [
        f"{figures['streams']} streams, {figures['slow']} slow readers" + "".join(f"{p:>12}" for p in phases)
    ]
    for name in ("p50_ms", "p99_ms", "max_ms"):
        lags = [(figures[phase]["lag"] or {}).get(name, float("nan")) for phase in phases]
        lines.append(f"{'token lag ' + name:<32}" + "".join(f"{lag:>12.2f}" for lag in lags))
    for name in ("tokens_per_s", "cpu_us_per_token", "complete", "broken"):
        lines.append(f"{name:<32}" + "".join(f"{figures[phase][name]:>12}" for phase in phases))
    growth, each = figures["memory_growth_mb"], figures["memory_kb_per_slow"]
    lines.append(
        f"memory: {growth} MB more, {each} KB for each slow reader; {figures['slow_broken']} of them broken"
    )
    return "\n".join(lines)


def main() -> int:
    """Returns 0 when nobody's answer broke."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.backpressure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--bytes-per-s", type=int, default=1024)
    parser.add_argument("--answer-bytes", type=int, default=50_000_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    raise_file_limit()
    try:
        with ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix="vastproxy-slow-", ignore_cleanup_errors=True)
            directory = Path(stack.enter_context(folder))
            engines = stack.enter_context(asked_engines(directory))
            running = stack.enter_context(start(directory, engines))
            figures = uvloop.run(measure(arguments, directory, running))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(f"{table(figures)}\n{json.dumps(figures)}\n")
    broken = figures["slow_broken"] + sum(
        figures[phase]["broken"] for phase in ("alone", "beginning", "beside")
    )
    return 0 if broken == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
