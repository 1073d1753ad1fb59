"""An engine that can be told to misbehave: `python -m bench.chaos_engine PORT MODEL JOURNAL`. It passes for vLLM.

`POST /chaos`, which the proxy never sends, takes `{"mode": …, "share": …, "status": …, "retry_after": …, "factor": …}`
and holds for requests that begin later, this share of them. What a request is answered otherwise is in `chaos_answers`.
The journal has a line when a request begins and when it ends, by the clock that all processes of a machine share; each
is written at once, so that SIGKILL loses none.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import struct
import sys
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.answers import CHAT
from bench.chaos_answers import DONE_EVENT, MARK, plain_answer, refusal, stream_events
from bench.processes import HELPERS_CORE, Program, listens

_LIMIT = 8 << 20
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_FOREVER_S = 3600.0
_AT_ONCE = struct.pack("ii", 1, 0)


class _Cut(Exception):
    """The connection ends here."""


def _whole(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(slots=True)
class ChaosEngine:
    """One engine. `mode`: `ok`, or how it misbehaves."""

    model: str
    journal: int
    mode: str = "ok"
    how: Mapping[str, Any] = field(default_factory=dict)
    rng: random.Random = field(default_factory=random.Random)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        early = b""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, _Cut):
            while True:
                head = early + await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                early = await self._while_there(
                    reader, self._answer(writer, head.split(b" ", 2)[1].decode(), body)
                )
                await writer.drain()
        if self.mode == "reset":
            # Without lingering, closing resets the connection.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        writer.close()

    async def _while_there(self, reader: asyncio.StreamReader, answer: Coroutine[Any, Any, None]) -> bytes:
        """Answer until the client has gone. Returns what it has sent meanwhile."""
        early, is_over = b"", False
        try:
            async with asyncio.TaskGroup() as group:
                answering, listening = group.create_task(answer), group.create_task(reader.read(1))
                await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    early = listening.result()
                    is_over = not early
                if is_over:
                    answering.cancel()
                else:
                    await answering
                listening.cancel()
        except* (OSError, _Cut):
            is_over = True
        if is_over:
            raise _Cut
        return early

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: bytes) -> None:
        if path == "/chaos":
            self.how = json.loads(body)
            self.mode = self.how["mode"]
            writer.write(_whole(b"{}"))
        elif path != CHAT:
            writer.write(self._about(path))
        else:
            asked = json.loads(body)
            self._note(asked, "begin")
            try:
                await self._complete(writer, asked)
            finally:
                self._note(asked, "end")

    def _about(self, path: str) -> bytes:
        if path == "/health":
            return _whole(b"{}", "503 Service Unavailable") if self.mode == "loading" else _whole(b"")
        if path == "/version":
            return _whole(b'{"version": "0.11.0"}')
        if path == "/v1/models":
            model = {"id": self.model, "object": "model", "owned_by": "vllm", "max_model_len": 131072}
            return _whole(json.dumps({"object": "list", "data": [model]}).encode())
        return _whole(b'{"detail": "Not Found"}', "404 Not Found")

    async def _complete(self, writer: asyncio.StreamWriter, asked: Mapping[str, Any]) -> None:
        if asked["model"] != self.model:
            writer.write(_whole(b'{"detail": "no such model"}', "404 Not Found"))
            return
        mode = self.mode if self.rng.random() < float(self.how.get("share", 1.0)) else "ok"
        slow = float(self.how["factor"]) if mode == "slow" else 1.0
        if mode == "stall" and self.rng.random() < 0.5:
            await asyncio.sleep(_FOREVER_S)
        await asyncio.sleep(float(asked["think_s"]) * slow)
        if mode in ("status", "loading"):
            writer.write(self._refuse(str(asked["nonce"])))
        elif mode == "garbage":
            writer.write(b"\x00\xff\x16 this is not HTTP\r\n\r\n")
            raise _Cut
        elif asked["stream"]:
            await self._stream(writer, asked, mode, slow)
        else:
            answer = _whole(plain_answer(asked, self.model))
            if mode in ("truncated", "reset", "mangled", "stall"):
                writer.write(answer[: self.rng.randrange(1, len(answer))])
                await writer.drain()
                await asyncio.sleep(_FOREVER_S if mode == "stall" else 0)
                raise _Cut
            writer.write(answer)

    def _refuse(self, nonce: str) -> bytes:
        status = 503 if self.mode == "loading" else int(self.how["status"])
        after = self.how.get("retry_after")
        more = f"{MARK}: {nonce}\r\n" + (f"retry-after: {after}\r\n" if after is not None else "")
        return _whole(refusal(nonce), f"{status} On Purpose", more)

    async def _stream(
        self, writer: asyncio.StreamWriter, asked: Mapping[str, Any], mode: str, slow: float
    ) -> None:
        events = stream_events(asked, self.model)
        breaks = (
            self.rng.randrange(len(events)) if mode in ("truncated", "reset", "mangled", "stall") else None
        )
        due = time.monotonic()
        for place, event in enumerate(events):
            if place == breaks:
                await self._break(writer, event, mode)
            last = place == len(events) - 1
            data = _chunk(event) + (b"0\r\n\r\n" if last else b"")
            writer.write(data if place else _STREAM_HEAD + data)
            await writer.drain()
            due += 0.0 if event is DONE_EVENT else slow / float(asked["rate"])
            await asyncio.sleep(max(0.0, due - time.monotonic()) if not last else 0)

    async def _break(self, writer: asyncio.StreamWriter, event: bytes, mode: str) -> None:
        """End in the middle of things: between two events, or within one."""
        if mode == "stall":
            await asyncio.sleep(_FOREVER_S)
        writer.write(
            b"no length\r\n" if mode == "mangled" else _chunk(event)[: self.rng.randrange(len(event))]
        )
        await writer.drain()
        raise _Cut

    def _note(self, asked: Mapping[str, Any], what: str) -> None:
        line = {"nonce": asked["nonce"], "what": what, "at": time.monotonic()}
        os.write(self.journal, json.dumps(line).encode() + b"\n")


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def serve(port: int, model: str, journal: Path) -> None:
    """Answer on this port of loopback until SIGTERM."""
    engine = ChaosEngine(model, os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    server = await asyncio.start_server(engine.serve, "127.0.0.1", port, limit=_LIMIT)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


def engine_program(directory: Path, port: int, model: str) -> tuple[Program, Path]:
    """An engine on this port that has not been started, and its journal."""
    journal = directory / f"engine-{port}.jsonl"
    argv = [sys.executable, "-m", "bench.chaos_engine", str(port), model, str(journal)]
    log = directory / f"engine-{port}.log"
    return Program(argv, core=HELPERS_CORE, log=log, ready=lambda: listens(port)), journal


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("model")
    parser.add_argument("journal", type=Path)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.model, given.journal))


if __name__ == "__main__":
    main()
