"""A tiny HTTP server that answers what a keeper asks, as vLLM does: the engine of a thousand instances at once.

    with probed_engine() as port: ...

It runs in a process of its own, so that its work is not counted as ours.
"""

import asyncio
import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection

from bench.processes import HELPERS_CORE

BACKLOG = 4096
_MODELS = b'{"object": "list", "data": [{"id": "a-model", "object": "model", "owned_by": "vllm"}]}'


def _answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_ANSWERS = {
    b"/version": _answer(b"200 OK", b'{"version": "0.11.0"}'),
    b"/health": _answer(b"200 OK", b""),
    b"/v1/models": _answer(b"200 OK", _MODELS),
}
_MISSING = _answer(b"404 Not Found", b'{"detail": "Not Found"}')


class _Engine(asyncio.Protocol):
    """One answer for each request head; a `connection: close` is left to the other side."""

    def __init__(self) -> None:
        self._seen = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            path = self._seen.split(b" ", 2)[1]
            self._seen = self._seen[end + 4 :]
            assert self._transport is not None
            self._transport.write(_ANSWERS.get(path, _MISSING))


async def _serve(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Engine, "127.0.0.1", 0, backlog=BACKLOG)
    pipe.send(server.sockets[0].getsockname()[1])
    ended = asyncio.Event()
    loop.add_reader(pipe.fileno(), ended.set)  # a message, or the end of who started us
    await ended.wait()
    server.close()


def _main(pipe: Connection) -> None:
    with contextlib.suppress(OSError):  # where there is no such core, it shares ours
        os.sched_setaffinity(0, {HELPERS_CORE})
    asyncio.run(_serve(pipe))


@contextlib.contextmanager
def probed_engine() -> Iterator[int]:
    """The port of a running engine; it ends with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        port: int = ours.recv()
        yield port
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
