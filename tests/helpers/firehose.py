"""An engine that answers as fast as its answers are taken: long ones, and streams whose tokens tell when they left.

It passes for vLLM. `GET /long/<bytes>` is answered with so many bytes; a chat request with `"stream": true` with
`max_tokens` tokens at `TOKENS_PER_S`, each an event that holds the time at which it was written.
"""

import asyncio
import json
import time

from tests.helpers.memory import VLLM

TOKENS_PER_S = 50.0
_PIECE = 64 * 1024


class Firehose:
    """The handler for a `ScriptedServer`. `long_bytes` counts what was taken of long answers."""

    def __init__(self) -> None:
        self.long_bytes = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            path = head.split(b" ", 2)[1].decode()
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            if path.startswith("/long/"):
                await self._long(writer, int(path.rpartition("/")[2]))
            elif path == "/v1/chat/completions":
                await _stream(writer, int(json.loads(body)["max_tokens"]))
            else:
                _plain(writer, path)
            await writer.drain()

    async def _long(self, writer: asyncio.StreamWriter, size: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for start in range(0, size, _PIECE):
            piece = b"x" * min(_PIECE, size - start)
            writer.write(piece)
            await writer.drain()
            self.long_bytes += len(piece)


def _plain(writer: asyncio.StreamWriter, path: str) -> None:
    body = VLLM.get(path)
    status = b"200 OK" if body is not None else b"404 Not Found"
    writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body or b""), body or b""))


async def _stream(writer: asyncio.StreamWriter, tokens: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    due = time.monotonic()
    for _ in range(tokens):
        event = b"data: %d\n\n" % time.monotonic_ns()
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        due += 1 / TOKENS_PER_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    writer.write(b"0\r\n\r\n")
