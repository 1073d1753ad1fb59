"""The load of streams: `python -m bench.sse_load URL STREAMS`. Opens them, counts tokens, and how late each one came.

It is driven by lines on standard input and answers with JSON lines. When every stream has had its first token (or the
time for it is over) it says `open`. `begin` clears the counts, `end` reports them, `finish` waits for the streams to
end and reports how they did.
"""

import argparse
import asyncio
import gc
import json
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from bench.answers import CHAT, DONE, STAMP_DIGITS, STAMP_MARK, chat_request
from bench.figures import describe_latency

_LOOK_EVERY_S = 0.02
_STAMP_BYTES = len(STAMP_MARK) + STAMP_DIGITS


class Counts:
    """What has happened to all streams."""

    def __init__(self) -> None:
        self.lags = array("q")
        self.first = array("q")
        self.tokens = 0
        self.unreadable = 0
        self.opened = self.complete = 0
        self.broken: Counter[str] = Counter()

    def clear_tokens(self) -> None:
        self.lags = array("q")
        self.tokens = self.unreadable = 0

    @property
    def ended(self) -> int:
        return self.complete + sum(self.broken.values())


class Stream(asyncio.Protocol):
    """One request and its streamed answer. Nothing of HTTP is parsed but the status: tokens are found by their mark."""

    __slots__ = (
        "_accepted",
        "_asked_ns",
        "_counts",
        "_over",
        "_request",
        "_tail",
        "_tokens",
        "_transport",
        "_wanted",
    )

    def __init__(self, counts: Counts, request: bytes, wanted: int) -> None:
        self._counts = counts
        self._request = request
        self._wanted = wanted
        self._tokens = 0
        self._tail = b""
        self._asked_ns = time.monotonic_ns()
        self._transport: asyncio.Transport
        self._accepted = False
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._tail:
            data = self._tail + data
        if not self._accepted:
            if len(data) < 12:
                self._tail = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self._end(f"status {data[9:12].decode('latin-1')}")
                return
            self._accepted = True
        counts, position = self._counts, 0
        while (found := data.find(STAMP_MARK, position)) >= 0 and found + _STAMP_BYTES <= len(data):
            position = found + _STAMP_BYTES
            digits = data[found + 1 : position]
            if digits.isdigit():
                counts.lags.append(now - int(digits))
            else:  # a chunk that the proxy made begins inside the stamp
                counts.unreadable += 1
            if not self._tokens:
                counts.first.append(now - self._asked_ns)
            self._tokens += 1
            counts.tokens += 1
        if DONE in data[position:]:
            self._end("" if self._tokens == self._wanted else "tokens missing")
        else:
            self._tail = data[found:] if found >= 0 else data[position:][-8:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("connection closed" if exc is None else type(exc).__name__)

    def _end(self, problem: str) -> None:
        if self._over:
            return
        self._over = True
        if problem:
            self._counts.broken[problem] += 1
        else:
            self._counts.complete += 1
        self._transport.abort()


class Load:
    """All streams of one run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.counts = Counts()
        self._arguments = arguments
        address = urlsplit(arguments.url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._request = build_request(address.netloc, arguments.tokens, arguments.key)
        self._openers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open all streams evenly over the ramp, then wait until each has a token or has failed."""
        loop = asyncio.get_running_loop()
        streams, began = self._arguments.streams, loop.time()
        pause_s = self._arguments.ramp / streams
        for number in range(streams):
            delay_s = began + number * pause_s - loop.time()
            if delay_s > 0.001:
                await asyncio.sleep(delay_s)
            task = loop.create_task(self._open_one())
            self._openers.add(task)
            task.add_done_callback(self._openers.discard)
        deadline = began + self._arguments.ramp + self._arguments.open_limit
        await look(
            lambda: len(self.counts.first) + self.counts.ended >= streams, limit_s=deadline - loop.time()
        )

    async def _open_one(self) -> None:
        counts = self.counts
        try:
            async with asyncio.timeout(self._arguments.open_limit):
                await asyncio.get_running_loop().create_connection(
                    lambda: Stream(counts, self._request, self._arguments.tokens), self._host, self._port
                )
            counts.opened += 1
        except OSError as error:
            counts.broken[type(error).__name__] += 1

    async def finish(self, limit_s: float) -> None:
        """Wait for the end of every stream."""
        await look(lambda: self.counts.ended >= self._arguments.streams, limit_s=limit_s)


async def look(condition: Callable[[], bool], *, limit_s: float) -> None:
    """Until the condition holds, or the time is over. Looking now and then costs less than telling at each token."""
    for _ in range(max(1, int(limit_s / _LOOK_EVERY_S))):
        if condition():
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def build_request(host: str, tokens: int, key: str) -> bytes:
    """A whole request for a stream of so many tokens."""
    body = chat_request(stream=True, max_tokens=tokens)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def report(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


async def run(arguments: argparse.Namespace) -> None:
    """Open, then do what standard input says."""
    load = Load(arguments)
    counts = load.counts
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
    )
    await load.open()
    report(
        "open",
        opened=counts.opened,
        started=len(counts.first),
        broken=dict(counts.broken),
        first_token=describe_latency(counts.first),
    )
    began_ns = 0
    async for line in lines:
        match line.decode().strip():
            case "begin":
                counts.clear_tokens()
                began_ns = time.monotonic_ns()
            case "end":
                seconds = (time.monotonic_ns() - began_ns) / 1e9
                fields = {"tokens": counts.tokens, "unreadable": counts.unreadable, "seconds": seconds}
                report("window", **fields, lag=describe_latency(counts.lags))
            case "finish":
                await load.finish(arguments.finish_limit)
                unfinished = arguments.streams - counts.ended
                report(
                    "finished", complete=counts.complete, broken=dict(counts.broken), unfinished=unfinished
                )
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="whom to ask, such as http://127.0.0.1:8080")
    parser.add_argument("streams", type=int, help="streams at the same time")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of each stream")
    parser.add_argument("--key", default="bench", help="bearer")
    parser.add_argument("--ramp", type=float, default=2.0, help="seconds over which the streams are opened")
    parser.add_argument(
        "--open-limit", type=float, default=20.0, help="longest wait for the last first token, s"
    )
    parser.add_argument("--finish-limit", type=float, default=20.0, help="longest wait for the last end, s")
    gc.disable()  # a collection would show as token lag
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
