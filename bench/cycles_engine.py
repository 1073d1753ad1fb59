"""An engine that thinks before it answers: `python -m bench.cycles_engine PORT`. It passes for vLLM.

A chat request may have `think_s` (silence before the first byte of the answer), `rate` (tokens a second of a streamed
answer) and `answer_bytes` (how long one is that is not streamed).
"""

import argparse
import asyncio
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from bench.answers import CHAT, DONE, STATIC, token_parts
from bench.processes import HELPERS_CORE, Program, listens

_BACKLOG = 1024
_TOKEN = b"0".zfill(19).join(token_parts())
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST = b"data: " + DONE + b"\n\n"
_STREAM_END = b"%x\r\n" % len(_LAST) + _LAST + b"\r\n0\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, to its end."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            lengths = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            await _answer(writer, lines[0].split(b" ")[1].decode(), body)
            await writer.drain()
    writer.close()


async def _answer(writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    if path != CHAT:
        known = path in STATIC
        _write(writer, STATIC.get(path, b'{"detail": "Not Found"}'), b"200 OK" if known else b"404 Not Found")
        return
    asked: dict[str, Any] = json.loads(body)
    await asyncio.sleep(float(asked.get("think_s", 0.0)))
    if asked.get("stream"):
        await _stream(writer, int(asked["max_tokens"]), float(asked["rate"]))
    else:
        _write(writer, b'"%b"' % (b"x" * (int(asked["answer_bytes"]) - 2)))


def _write(writer: asyncio.StreamWriter, body: bytes, status: bytes = b"200 OK") -> None:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (status, len(body)) + body)


async def _stream(writer: asyncio.StreamWriter, tokens: int, rate: float) -> None:
    loop = asyncio.get_running_loop()
    writer.write(_STREAM_HEAD)
    due = loop.time()
    for _ in range(tokens):
        writer.write(_TOKEN)
        await writer.drain()
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
    writer.write(_STREAM_END)


async def serve(port: int) -> None:
    """Answer on this port of loopback until SIGTERM."""
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=_BACKLOG)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


def engine_program(directory: Path, port: int) -> Program:
    """An engine on this port that has not been started."""
    argv = [sys.executable, "-m", "bench.cycles_engine", str(port)]
    log = directory / f"engine-{port}.log"
    return Program(argv, core=HELPERS_CORE, log=log, ready=lambda: listens(port))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
