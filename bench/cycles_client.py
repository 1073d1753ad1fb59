"""The clients of the cycles: a steady load of questions and streams, every one of them accounted for."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.answers import CHAT, MODEL
from bench.contenders.base import CLIENT_KEY
from bench.soak_client import Conversation, Failed

#: A client that has heard nothing for so long gives up, and counts it as a failure.
PATIENCE_S = 90.0
#: Length of a small answer.
SMALL = 500
_LIMIT = 1 << 22


@dataclass(slots=True)
class Asked:
    """One request and how it ended. `reason` is empty when all was well; `began` and `ended` are monotonic."""

    kind: str
    began: float
    ended: float = 0.0
    reason: str = ""
    was_answered: bool = False
    """Had the client got anything of the engine's answer when it ended?"""
    instance: int | None = None

    @property
    def is_good(self) -> bool:
        return not self.reason


class _Watched(Conversation):
    """A connection that remembers whether the answer to the last request began well."""

    has_head = False

    async def head(self) -> dict[str, str]:
        fields = await Conversation.head(self)
        self.has_head = True
        return fields


def request_bytes(
    *, think_s: float = 0.0, answer_bytes: int = SMALL, tokens: int = 0, rate: float = 0
) -> bytes:
    """A whole request for `bench.cycles_engine`: streamed when `tokens` is given."""
    asked: dict[str, object] = {"model": MODEL, "max_tokens": tokens or 16, "think_s": round(think_s, 3)}
    asked |= {"stream": True, "rate": rate} if tokens else {"answer_bytes": answer_bytes}
    asked["messages"] = [{"role": "user", "content": "How long does it take?"}]
    body = json.dumps(asked).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {CLIENT_KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass(slots=True)
class Clients:
    """Who asks, until told to stop. `on_end` hears of every request. An engine thinks up to `think_s`."""

    port: int
    on_end: Callable[[Asked], None]
    rng: random.Random
    think_s: float
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def plain(self) -> None:
        """Questions on a kept connection, one after the other; a new connection after a failure."""
        talk: _Watched | None = None
        while not self.stopping.is_set():
            asked, talk = await self._plain("plain", talk, self.rng.uniform(0, self.think_s))
            if talk is not None and not asked.is_good:
                talk.close()
                talk = None
            await asyncio.sleep(self.rng.uniform(0.02, 0.08))
        if talk is not None:
            talk.close()

    async def streams(self) -> None:
        """One stream after the other, each on a connection of its own."""
        while not self.stopping.is_set():
            await self._stream()
            await asyncio.sleep(self.rng.uniform(0.02, 0.08))

    async def once(self, kind: str, *, answer_bytes: int = SMALL) -> Asked:
        """One question on a connection of its own, which the engine answers at once."""
        asked, talk = await self._plain(kind, None, 0.0, answer_bytes)
        if talk is not None:
            talk.close()
        return asked

    async def _stream(self) -> None:
        tokens, rate = self.rng.randint(20, 200), self.rng.uniform(10, 40)
        data = request_bytes(think_s=self.rng.uniform(0, self.think_s), tokens=tokens, rate=rate)
        _, talk = await self._ask("stream", None, data, lambda talk: talk.stream(tokens))
        if talk is not None:
            talk.close()

    async def _plain(
        self, kind: str, talk: _Watched | None, think_s: float, answer_bytes: int = SMALL
    ) -> tuple[Asked, _Watched | None]:
        data = request_bytes(think_s=think_s, answer_bytes=answer_bytes)
        return await self._ask(kind, talk, data, lambda talk: talk.small(answer_bytes))

    async def _ask(
        self,
        kind: str,
        talk: _Watched | None,
        data: bytes,
        read: Callable[[Conversation], Awaitable[None]],
    ) -> tuple[Asked, _Watched | None]:
        """One request, on this connection or a new one; returns the connection, if there was one."""
        asked = Asked(kind, time.monotonic())
        try:
            async with asyncio.timeout(PATIENCE_S):
                if talk is None:
                    talk = _Watched(*await asyncio.open_connection("127.0.0.1", self.port, limit=_LIMIT))
                talk.has_head, talk.instance = False, None
                talk.writer.write(data)
                await read(talk)
        except TimeoutError:
            asked.reason = f"no end within {PATIENCE_S:g} s"
        except Failed as error:
            asked.reason = str(error)
        except asyncio.IncompleteReadError:
            asked.reason = "the connection ended before the answer did"
        except OSError as error:
            asked.reason = type(error).__name__
        asked.ended = time.monotonic()
        if talk is not None:
            asked.was_answered, asked.instance = talk.has_head, talk.instance
        self.on_end(asked)
        return asked, talk
