"""A far line in front of a port: `python -m bench.lanes_line LISTEN TARGET --delay 0.04 --rate 4000000`.

What goes in comes out `--delay` seconds later, and of each TCP connection at most `--rate` bytes a second in each
direction, which is what loss on a long way, or a shared relay, does to a single flow. It holds no more than the delay
times the rate: when the line is full the sender is not read from, as with a real one.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
from pathlib import Path

import uvloop

from bench.processes import HELPERS_CORE, Program, listens

_READ_BYTES = 16_384
#: The kernel's buffers on each side. Left alone they grow to megabytes, which would queue in front of the line.
_SOCKET_BYTES = 65_536
#: Time for which a line that was not used may be used faster afterwards, so that late timers cost no throughput.
_SLACK_S = 0.02
_BACKLOG = 128


class Metered:
    """When bytes may go onto a line of so many a second. Pure."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = 0.0

    def put(self, size: int, now: float) -> float:
        """The time at which the line has taken these, if they come now."""
        self._free_at = max(self._free_at, now - _SLACK_S) + size / self._rate
        return self._free_at


async def _flow(source: socket.socket, sink: socket.socket, delay_s: float, rate: float) -> None:
    """One direction, to its end."""
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(max(8, int(2 * delay_s * rate / _READ_BYTES)))
    async with asyncio.TaskGroup() as group:
        group.create_task(_read(source, line, delay_s, Metered(rate)))
        group.create_task(_write(sink, line))


async def _read(
    source: socket.socket, line: "asyncio.Queue[tuple[float, bytes]]", delay_s: float, metered: Metered
) -> None:
    loop = asyncio.get_running_loop()
    data = b"unknown"
    while data:
        data = await loop.sock_recv(source, _READ_BYTES)
        taken_at = metered.put(len(data), loop.time())
        await line.put((max(taken_at, loop.time()) + delay_s, data))
        if (wait_s := taken_at - loop.time()) > 0:
            await asyncio.sleep(wait_s)


async def _write(sink: socket.socket, line: "asyncio.Queue[tuple[float, bytes]]") -> None:
    loop = asyncio.get_running_loop()
    data = b"unknown"
    while data:
        due, data = await line.get()
        if (early_s := due - loop.time()) > 0:
            await asyncio.sleep(early_s)
        if data:
            await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)


async def _relay(client: socket.socket, target: int, delay_s: float, rate: float) -> None:
    server = socket.socket()
    _prepare(server)
    with client, server, contextlib.suppress(OSError, ExceptionGroup):
        await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", target))
        async with asyncio.TaskGroup() as group:
            group.create_task(_flow(client, server, delay_s, rate))
            group.create_task(_flow(server, client, delay_s, rate))


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, buffer, _SOCKET_BYTES)


async def serve(port: int, target: int, delay_s: float, rate: float) -> None:
    """Relay until cancelled."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _prepare(listener)  # what it accepts has its buffers from the first packet on
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
        async with asyncio.TaskGroup() as group:
            while True:
                client, _ = await loop.sock_accept(listener)
                _prepare(client)
                group.create_task(_relay(client, target, delay_s, rate))


def line_program(directory: Path, port: int, target: int, *, delay_s: float, rate: float) -> Program:
    """Such a line that has not been started."""
    argv = [sys.executable, "-m", "bench.lanes_line", str(port), str(target)]
    argv += ["--delay", str(delay_s), "--rate", str(rate)]
    log = directory / "line.log"
    return Program(argv, core=HELPERS_CORE, log=log, ready=lambda: listens(port))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--delay", type=float, default=0.04, help="seconds, in each direction")
    parser.add_argument("--rate", type=float, default=4e6, help="bytes a second of each connection")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.target, arguments.delay, arguments.rate))


if __name__ == "__main__":
    main()
