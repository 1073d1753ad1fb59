"""An engine that does what each request asks for: `python -m bench.asked_engine PORT …`. It passes for vLLM.

A chat request has, beside what the OpenAI API has, `answer_bytes` (how long an answer is that is not streamed) and
`rate` (tokens a second of one that is). Bodies of any length are read and counted; a long answer is written as fast as
it is taken, and no faster, so that it costs no memory here.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import uvloop

from bench.answers import CHAT, DONE, STATIC, token_parts
from bench.engines import Engines
from bench.processes import HELPERS_CORE, Program, free_port, listens

_BACKLOG = 8192
_PIECE = 256 * 1024
_BEFORE, _AFTER = token_parts()
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST = b"data: " + DONE + b"\n\n"
_STREAM_END = b"%x\r\n" % len(_LAST) + _LAST + b"\r\n0\r\n\r\n"


def _head(length: int, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, length)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, to its end."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines[1:])
            }
            body = await _read_body(reader, fields)
            await _answer(writer, lines[0].split(b" ")[1].decode(), body)
            await writer.drain()
    writer.close()


async def _read_body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    if fields.get(b"transfer-encoding", b"").lower() != b"chunked":
        return await reader.readexactly(int(fields.get(b"content-length", b"0")))
    pieces = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)


async def _answer(writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
    if path != CHAT:
        known = path in STATIC
        text = STATIC.get(path, b'{"detail": "Not Found"}')
        writer.write(_head(len(text), b"200 OK" if known else b"404 Not Found") + text)
        return
    asked = json.loads(body)
    if asked.get("stream"):
        await _stream(writer, int(asked.get("max_tokens", 16)), float(asked.get("rate", 30.0)))
    else:
        await _long_answer(writer, int(asked.get("answer_bytes", 500)))


async def _stream(writer: asyncio.StreamWriter, tokens: int, rate: float) -> None:
    writer.write(_STREAM_HEAD)
    due = time.monotonic()
    for _ in range(tokens):
        writer.write(b"%b%019d%b" % (_BEFORE, time.monotonic_ns(), _AFTER))
        await writer.drain()
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    writer.write(_STREAM_END)


async def _long_answer(writer: asyncio.StreamWriter, size: int) -> None:
    left = size - 2
    writer.write(_head(size) + b'"')
    while left > 0:
        writer.write(b"x" * min(_PIECE, left))
        left -= _PIECE
        await writer.drain()
    writer.write(b'"')


async def serve(ports: Sequence[int]) -> None:
    """Answer on these ports of loopback until SIGTERM."""
    servers = [await asyncio.start_server(_serve, "127.0.0.1", port, backlog=_BACKLOG) for port in ports]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    for server in servers:
        server.close()


def engine_program(directory: Path, ports: Sequence[int]) -> Program:
    """An engine on these ports that has not been started."""
    argv = [sys.executable, "-m", "bench.asked_engine", *map(str, ports)]
    log = directory / f"engine-{ports[0]}.log"
    return Program(argv, core=HELPERS_CORE, log=log, ready=lambda: all(map(listens, ports)))


@contextmanager
def asked_engines(directory: Path) -> Iterator[Engines]:
    """Two running engines, which are one process."""
    ports = (free_port(), free_port())
    with engine_program(directory, ports) as program:
        yield Engines(ports, program)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ports", type=int, nargs="+")
    uvloop.run(serve(parser.parse_args().ports))


if __name__ == "__main__":
    main()
