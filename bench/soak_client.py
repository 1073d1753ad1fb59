"""The clients of a soak: each asks in one way, over and over, and tells how every request ended.

Well-behaved and others: small questions on kept connections, streams read to their end, prompts of 1 MB, answers of
some MB read slowly, several questions sent at once, and clients that leave at any moment.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.answers import CHAT, DONE, MODEL
from bench.contenders.base import CLIENT_KEY

#: A client that hears nothing for so long gives up, and counts it as a failure.
PATIENCE_S = 90.0
MIB = 1 << 20
PIPELINED = 4


@dataclass(slots=True)
class Ended:
    """How one request ended. `reason` is empty when all was well; `instance`: who answered, as far as known."""

    kind: str
    began: float
    ended: float
    reason: str = ""
    instance: int | None = None
    left: bool = False
    """The client went away by itself; whatever it saw is no failure."""


class Failed(Exception):
    """An answer that is not what it should be."""


@dataclass(slots=True)
class Conversation:
    """One connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    instance: int | None = None

    async def head(self) -> dict[str, str]:
        """Read an answer's head; raises Failed for any status but 200, with the error's code."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.instance = int(fields["x-vastproxy-instance"]) if "x-vastproxy-instance" in fields else None
        if (status := lines[0].split(" ")[1]) != "200":
            body = await self.reader.readexactly(int(fields.get("content-length", "0")))
            raise Failed(f"status {status} {_code(body)}")
        return fields

    async def small(self, expected: int) -> None:
        """Read a whole answer that is not streamed."""
        fields = await self.head()
        if int(fields["content-length"]) != expected:
            raise Failed("a wrong length")
        await self.reader.readexactly(expected)

    async def stream(self, tokens: int) -> None:
        """Read a whole streamed answer: every token, and its end."""
        await self.head()
        text = bytearray()
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            text += (await self.reader.readexactly(size + 2))[:-2]
            if b"event: error" in text[-2000:]:
                raise Failed("an error event")
        await self.reader.readexactly(2)
        seen = text.count(b'"delta"')
        if seen != tokens or DONE not in text:
            raise Failed(f"ended properly after {seen} of {tokens} tokens")

    async def slowly(self, expected: int, bytes_per_s: float) -> None:
        """Read a long answer slowly, to its end."""
        await self.head()
        left = expected
        while left:
            piece = await self.reader.read(min(left, 16 * 1024))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            await asyncio.sleep(len(piece) / bytes_per_s)

    def close(self) -> None:
        self.writer.transport.abort()


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "without an OpenAI error"


def question(*, tokens: int = 0, rate: float = 0.0, answer_bytes: int = 0, prompt_bytes: int = 16) -> bytes:
    """A whole request as bytes: streamed when `tokens` is given."""
    asked: dict[str, object] = {"model": MODEL, "max_tokens": tokens or 16}
    if tokens:
        asked |= {"stream": True, "rate": rate}
    if answer_bytes:
        asked["answer_bytes"] = answer_bytes
    asked["messages"] = [{"role": "user", "content": "x" * prompt_bytes}]
    body = json.dumps(asked).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {CLIENT_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Clients:
    """Who asks, until told to stop. `on_end` hears of every request."""

    port: int
    on_end: Callable[[Ended], None]
    rng: random.Random
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, kind: str) -> None:
        """One client of this kind."""
        while not self.stopping.is_set():
            await self.once(kind)
            await asyncio.sleep(self.rng.uniform(0.0, 0.2))

    async def once(self, kind: str) -> None:
        """What a client of this kind does on one connection."""
        began = time.monotonic()
        try:
            await getattr(self, f"_{kind}")(kind)
        except OSError as error:
            self.on_end(Ended(kind, began, time.monotonic(), f"cannot connect: {type(error).__name__}"))

    async def _open(self) -> Conversation:
        return Conversation(*await asyncio.open_connection("127.0.0.1", self.port, limit=4 * MIB))

    async def _ask(
        self,
        kind: str,
        talk: Conversation,
        request: bytes,
        read: Callable[[], Awaitable[None]],
        *,
        leave_after_s: float | None = None,
    ) -> bool:
        """One request; True when the connection may be used again."""
        ended = Ended(kind, time.monotonic(), 0.0)
        limit_s = PATIENCE_S if leave_after_s is None else leave_after_s
        try:
            async with asyncio.timeout(limit_s):
                talk.writer.write(request)
                await talk.writer.drain()
                await read()
        except TimeoutError:
            ended.left = leave_after_s is not None
            ended.reason = "" if ended.left else f"no end within {PATIENCE_S:g} s"
        except Failed as error:
            ended.reason = str(error)
        except asyncio.IncompleteReadError:
            ended.reason = "the connection ended before the answer did"
        except OSError as error:
            ended.reason = type(error).__name__
        ended.ended, ended.instance = time.monotonic(), talk.instance
        self.on_end(ended)
        return not ended.reason and not ended.left

    async def _small(self, kind: str) -> None:
        """Some questions on one connection."""
        talk = await self._open()
        for _ in range(self.rng.randint(1, 20)):
            if not await self._ask(kind, talk, question(), lambda: talk.small(500)) or self.stopping.is_set():
                break
            await asyncio.sleep(self.rng.uniform(0.0, 0.05))
        talk.close()

    async def _stream(self, kind: str) -> None:
        tokens, rate = self.rng.randint(20, 200), self.rng.uniform(10, 40)
        talk = await self._open()
        await self._ask(kind, talk, question(tokens=tokens, rate=rate), lambda: talk.stream(tokens))
        talk.close()

    async def _upload(self, kind: str) -> None:
        talk = await self._open()
        await self._ask(kind, talk, question(prompt_bytes=MIB), lambda: talk.small(500))
        talk.close()
        await asyncio.sleep(0.3)

    async def _slow(self, kind: str) -> None:
        size = self.rng.randint(1, 3) * MIB
        talk = await self._open()
        await self._ask(kind, talk, question(answer_bytes=size), lambda: talk.slowly(size, 200_000))
        talk.close()

    async def _leaver(self, kind: str) -> None:
        talk = await self._open()
        requests = (
            question(),
            question(tokens=100, rate=30),
            question(prompt_bytes=MIB),
            question(answer_bytes=3 * MIB),
        )
        after_s = self.rng.choice([0.0, 0.001, 0.01, 0.05, 0.3, 2.0])
        request = self.rng.choice(requests)
        await self._ask(kind, talk, request, lambda: talk.slowly(1 << 40, 1e6), leave_after_s=after_s + 0.001)
        talk.close()

    async def _pipelined(self, kind: str) -> None:
        talk = await self._open()

        async def read() -> None:
            for _ in range(PIPELINED):
                await talk.small(500)

        await self._ask(kind, talk, question() * PIPELINED, read)
        talk.close()
