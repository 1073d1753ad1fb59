"""The engines of the bench: `python -m bench.engine PORT PORT`. One lean process that answers on every port given.

A chat request with `"stream": true` gets `max_tokens` tokens at `--rate` a second, the first one at once; any other
gets one answer of `--answer-bytes`. A timer wheel of 1 ms spreads the tokens of all streams evenly over time, and
each carries the time at which it was written (CLOCK_MONOTONIC, which all processes of a machine share).
"""

import argparse
import asyncio
import gc
import re
import time
from typing import cast

import uvloop

from bench.answers import CHAT, DONE, STATIC, chat_answer, token_parts

_BACKLOG = 8192
_TICK_S = 0.001
_GOLDEN = 0.6180339887498949  # successive multiples, modulo 1, never cluster
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_MAX_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
_STREAM = re.compile(rb'"stream": *true')
#: Of a request's body only this much is looked at.
_LOOK_BYTES = 4096

_BEFORE, _AFTER = token_parts()
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_LAST = b"data: " + DONE + b"\n\n"
_STREAM_END = b"%x\r\n" % len(_LAST) + _LAST + b"\r\n0\r\n\r\n"


def plain_answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole JSON answer."""
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_STATIC = {path.encode(): plain_answer(body) for path, body in STATIC.items()}
_MISSING = plain_answer(b'{"detail": "Not Found"}', b"404 Not Found")


class Wheel:
    """Calls each stream once in every turn, spread over the turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        self._loop = loop
        self._slots: list[dict[Connection, None]] = [{} for _ in range(max(1, round(1000 / rate)))]
        self._next = 0
        self._started = loop.time()
        self._count = 0
        loop.call_later(_TICK_S, self._tick)

    def add(self, stream: "Connection") -> dict["Connection", None]:
        """Give a stream its place; it leaves by deleting itself from what is returned."""
        self._count += 1
        slot = self._slots[int(self._count * _GOLDEN % 1 * len(self._slots))]
        slot[stream] = None
        return slot

    def _tick(self) -> None:
        due = int((self._loop.time() - self._started) / _TICK_S)
        while self._next < due:
            for stream in tuple(self._slots[self._next % len(self._slots)]):
                stream.send_token()
            self._next += 1
        # Not `call_at`: uvloop counts in whole milliseconds, so that what is due within one would spin.
        self._loop.call_later(_TICK_S, self._tick)


class Connection(asyncio.Protocol):
    """One client. Requests are answered in turn; a pipelined one waits for the end of the one before."""

    def __init__(self, wheel: Wheel, answer: bytes) -> None:
        self._wheel = wheel
        self._answer = answer
        self._seen = bytearray()
        self._path = b""
        self._look = b""
        self._left: int | None = None  # None: a head is awaited; -1: a chunked body is being read
        self._tokens = 0
        self._slot: dict[Connection, None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_wheel()

    def data_received(self, data: bytes) -> None:
        if self._look and self._left is not None and self._left > len(data):
            self._left -= len(data)  # the usual piece of a long body is looked at no further
            return
        self._seen += data
        while self._slot is None and self._step():
            pass

    def _step(self) -> bool:
        """Take a head or the rest of a body from what has come. False: more is needed."""
        if self._left is None:
            return self._take_head()
        seen = self._seen
        if self._left < 0:
            end = seen.find(b"0\r\n\r\n")
            if end < 0 or (end and not seen.endswith(b"\r\n0\r\n\r\n")):
                return False
            self._look = bytes(seen[:_LOOK_BYTES])
            seen.clear()
        else:
            if self._left > len(seen):
                self._left -= len(seen)
                self._look = self._look or bytes(seen[:_LOOK_BYTES])
                seen.clear()
                return False
            self._look = self._look or bytes(seen[: min(_LOOK_BYTES, self._left)])
            del seen[: self._left]
        self._left = None
        self._respond()
        return bool(seen)

    def _take_head(self) -> bool:
        end = self._seen.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._seen[:end])
        del self._seen[: end + 4]
        self._path = head.split(b" ", 2)[1]
        self._look = b""
        if _CHUNKED.search(head):
            self._left = -1
        else:
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else 0
        return True

    def _respond(self) -> None:
        if self._path != CHAT.encode():
            self._transport.write(_STATIC.get(self._path, _MISSING))
        elif _STREAM.search(self._look):
            tokens = _MAX_TOKENS.search(self._look)
            self._tokens = int(tokens[1]) if tokens else 16
            self._transport.write(_STREAM_HEAD)
            self._slot = self._wheel.add(self)
            self.send_token()
        else:
            self._transport.write(self._answer)

    def send_token(self) -> None:
        """The next token, and the end after the last one."""
        self._tokens -= 1
        self._transport.write(b"%b%019d%b" % (_BEFORE, time.monotonic_ns(), _AFTER))
        if self._tokens <= 0:
            self._transport.write(_STREAM_END)
            self._leave_wheel()
            while self._slot is None and self._step():
                pass

    def _leave_wheel(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.pop(self, None)


async def serve(ports: list[int], rate: float, answer_bytes: int) -> None:
    """Answer on these ports of loopback until cancelled."""
    loop = asyncio.get_running_loop()
    wheel, answer = Wheel(loop, rate), plain_answer(chat_answer(answer_bytes))
    for port in ports:
        await loop.create_server(lambda: Connection(wheel, answer), "127.0.0.1", port, backlog=_BACKLOG)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--rate", type=float, default=30.0, help="tokens a second of each stream")
    parser.add_argument(
        "--answer-bytes", type=int, default=500, help="size of an answer that is not streamed"
    )
    arguments = parser.parse_args()
    gc.disable()  # nothing here is cyclic, and a collection would show as token lag
    uvloop.run(serve(arguments.ports, arguments.rate, arguments.answer_bytes))


if __name__ == "__main__":
    main()
