"""Who asks during the chaos, and whether what comes back is a correct answer, a correct error or neither.

Requests come at random moments at a steady rate, whatever becomes of those before (an open loop), of many kinds: plain
and streamed, short and long, with big bodies, with a session, of batch priority, by an alias; some clients leave.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bench.chaos_answers import ALIAS, MODELS, make_body, plain_answer, stream_events, wire_model
from bench.chaos_reading import Asked, Incorrect, read_answer
from bench.chaos_stage import CHAT, KEYS, LIMITS

#: Kinds of requests and how often each comes.
MIX: Mapping[str, int] = {
    "plain": 30,
    "stream": 24,
    "long stream": 12,
    "session": 12,
    "batch": 8,
    "big body": 5,
    "leaver": 9,
}
_SESSIONS = 12
_BIG_BYTES = (100_000, 1_500_000)
#: A client keeps a connection for so long.
_KEPT_S = 3.0
_KEPT = 16
_CONNECT_LIMIT_S = 5.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Clients:
    """Asks until told to stop. `on_end` hears of every request."""

    port: int
    on_end: Callable[[Asked], None]
    rng: random.Random
    rate: float
    long_tokens: tuple[int, int] = (60, 160)
    """Of a long stream."""
    running: set[asyncio.Task[None]] = field(default_factory=set)
    _kept: list[tuple[float, Connection]] = field(default_factory=list)

    async def run(self, stopping: asyncio.Event) -> None:
        """Begin requests until `stopping`; returns when all of them have ended."""
        async with asyncio.TaskGroup() as group:
            due = time.monotonic()
            while not stopping.is_set():
                due += self.rng.expovariate(self.rate)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), max(0.0, due - time.monotonic()))
                group.create_task(self.once(self.rng.choices(list(MIX), list(MIX.values()))[0]))
        self.close()

    def close(self) -> None:
        """Let go of the connections that are kept."""
        for _, (_, writer) in self._kept:
            writer.transport.abort()
        self._kept.clear()

    async def once(self, kind: str) -> None:
        """One request of this kind."""
        body, head, leaves_after_s = self._make(kind)
        asked = Asked(kind, body["nonce"], wire_model(body["model"]), time.monotonic())
        reader, writer = None, None
        keep = False
        try:
            reader, writer = await self._connect()
            if leaves_after_s is None:
                keep = await self._ask(asked, body, head, reader, writer)
            else:
                async with asyncio.timeout(leaves_after_s):
                    await self._ask(asked, body, head, reader, writer)
        except TimeoutError:
            asked.verdict, asked.what = (
                ("left", "") if leaves_after_s is not None else ("incorrect", "no connection")
            )
        except Incorrect as error:
            asked.verdict, asked.what = "incorrect", str(error)
        except (OSError, asyncio.IncompleteReadError) as error:
            asked.verdict, asked.what = "incorrect", f"no answer at all: {type(error).__name__}"
        finally:
            asked.ended = time.monotonic()
            if writer is not None and reader is not None:
                self._give_back((reader, writer), keep=keep)
        self.on_end(asked)

    async def _ask(
        self,
        asked: Asked,
        body: Mapping[str, Any],
        head: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Send it and read what comes; True when the connection may be used again."""
        data = json.dumps(body).encode()
        lines = (
            f"POST {CHAT} HTTP/1.1\r\nhost: chaos\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self.rng.choice(KEYS)}\r\n{head}content-length: {len(data)}\r\n\r\n"
        )
        writer.write(lines.encode() + data)
        model = asked.model
        expected = b"".join(stream_events(body, model)) if body["stream"] else plain_answer(body, model)
        asked.streamed = bool(body["stream"])
        return await read_answer(asked, reader, expected, LIMITS.until_answer(batch="priority" in head))

    def _make(self, kind: str) -> tuple[dict[str, Any], str, float | None]:
        """The body of a request, what its head has beside, and after how long its client leaves."""
        rng = self.rng
        nonce = f"{rng.getrandbits(64):016x}"
        model = rng.choice((MODELS[0], MODELS[1], ALIAS))
        prompt = f"{rng.choice(('tell', 'ask', 'count'))} {nonce} " + "words " * rng.randint(1, 40)
        make: dict[str, Any] = {
            "think_s": rng.uniform(0.02, 0.4),
            "answer_bytes": rng.choice((100, 2_000, 60_000)),
        }
        streamed = {"tokens": rng.randint(5, 30), "rate": 40.0, "think_s": rng.uniform(0.0, 0.2)}
        head, leaves_after_s = "", None
        match kind:
            case "stream":
                make = streamed
            case "long stream":
                make = {**streamed, "tokens": rng.randint(*self.long_tokens)}
            case "session":
                head = f"x-session-id: person-{rng.randrange(_SESSIONS)}\r\n"
            case "batch":
                head = "x-vastproxy-priority: batch\r\n"
            case "big body":
                prompt += "x" * rng.randint(*_BIG_BYTES)
                make = rng.choice((make, streamed))
            case "leaver":
                make = rng.choice((make, {**streamed, "tokens": self.long_tokens[1]}))
                leaves_after_s = rng.choice((0.0, 0.01, 0.1, 0.3, 1.0, 3.0)) + 0.001
        return make_body(nonce, model, prompt, **make), head, leaves_after_s

    # ── connections ────────────────────────────────────────────────────────────────────────────

    async def _connect(self) -> Connection:
        now = time.monotonic()
        while self._kept and self.rng.random() < 0.7:
            since, kept = self._kept.pop()
            if now - since < _KEPT_S and not kept[0].at_eof():
                return kept
            kept[1].transport.abort()
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    def _give_back(self, connection: Connection, *, keep: bool) -> None:
        if keep and len(self._kept) < _KEPT:
            self._kept.append((time.monotonic(), connection))
        else:
            connection[1].transport.abort()
