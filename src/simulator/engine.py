"""One simulated inference engine: its queue, its pace, what it was asked and what became of it.

The wire is elsewhere (`openai`, `flavours`); here is the state that they read and change.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vastproxy.simulator.replies import Reply, make_reply


class End(StrEnum):
    """Why a generation ended before its last token."""

    ABORTED = "aborted"
    DISCONNECTED = "disconnected"
    CRASHED = "crashed"


class QueueFull(Exception):
    """The engine takes no more requests now."""


@dataclass(frozen=True, slots=True)
class Traits:
    """How a kind of engine behaves under load and when a client leaves (sources: the engines, 2026-08)."""

    #: Generations at a time; more wait.
    slots: int
    #: Waiting requests before the engine refuses; None: no bound.
    queue: int | None
    #: SGLang 0.5.18 goes on generating when the client of a stream has left.
    aborts_on_disconnect: bool
    #: Least time that the health probe takes. SGLang's makes a token and sleeps a second first.
    health_s: float = 0.0


TRAITS: dict[str, Traits] = {
    "sglang": Traits(slots=64, queue=None, aborts_on_disconnect=False, health_s=1.0),
    "vllm": Traits(slots=256, queue=None, aborts_on_disconnect=True),
    "llamacpp": Traits(slots=4, queue=None, aborts_on_disconnect=True),
    "ollama": Traits(slots=1, queue=512, aborts_on_disconnect=True),
    "tgi": Traits(slots=64, queue=64, aborts_on_disconnect=True),
}


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it reached the engine. Header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(eq=False, slots=True)
class Generation:
    """One answer being made."""

    rid: str
    reply: Reply
    connected: bool = True
    sent: int = 0
    end: End | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, end: End) -> None:
        """End it now, for the first reason given."""
        if self.end is None:
            self.end = end
            self._ended.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the generation lives."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass


class Engine:
    """State of one engine. Attributes may be changed while it runs; they apply from the next token on."""

    def __init__(
        self,
        flavour: str,
        *,
        model: str = "Qwen/Qwen3-8B",
        tokens_per_s: float = 60.0,
        first_token_s: float = 0.05,
        speaker: str = "I am a simulated model.",
        seed: str = "0",
        health_s: float = 0.0,
        require_token: str | None = None,
    ) -> None:
        self.flavour = flavour
        self.model = model
        self.tokens_per_s = tokens_per_s
        self.first_token_s = first_token_s
        #: What one token's time is multiplied with.
        self.slowness = 1.0
        #: Least time of a health probe. `TRAITS[flavour].health_s` is what the real one takes.
        self.health_s = health_s
        #: Bearer that clients must send; None: everybody may ask, as on an engine's port inside an instance.
        self.require_token = require_token
        #: Answers 503 on its health path and refuses work, as while a model is loaded.
        self.loading = False
        #: Answers every inference request with this HTTP status instead of serving it; None: serves.
        self.failing: int | None = None
        traits = TRAITS[flavour]
        self.slots = traits.slots
        self.queue = traits.queue
        self.aborts_on_disconnect = traits.aborts_on_disconnect
        #: Inference requests that were answered in full.
        self.served = 0
        self.prompt_tokens = 0
        self.generated_tokens = 0
        #: Requests that wait for a slot.
        self.waiting = 0
        #: rids of the generations that an abort call ended, oldest first.
        self.aborted: deque[str] = deque(maxlen=1000)
        #: rids whose client left before the end, oldest first.
        self.abandoned: deque[str] = deque(maxlen=1000)
        #: The latest requests of any kind, oldest first.
        self.requests: deque[RecordedRequest] = deque(maxlen=1000)
        self._speaker, self._seed = speaker, seed
        self._generations: dict[Generation, None] = {}  # in the order of their begin
        self._free = asyncio.Condition()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._dead = asyncio.Event()

    def __repr__(self) -> str:
        work = f"running={len(self._generations)} waiting={self.waiting} served={self.served}"
        return f"<Engine {self.flavour} {work}>"

    @property
    def active(self) -> list[Generation]:
        """The generations that run now."""
        return list(self._generations)

    @property
    def active_streams(self) -> int:
        return len(self._generations)

    @property
    def last_request(self) -> RecordedRequest | None:
        """The latest inference request."""
        return next((r for r in reversed(self.requests) if r.path.endswith("completions")), None)

    @property
    def load(self) -> float:
        """Share of the slots in use, 0 to 1."""
        return min(1.0, len(self._generations) / self.slots)

    @asynccontextmanager
    async def generation(self, rid: str, body: dict[str, Any], prompt: str) -> AsyncIterator[Generation]:
        """A slot and an answer in the making. Raises QueueFull when too many wait already."""
        if self.queue is not None and len(self._generations) >= self.slots and self.waiting >= self.queue:
            raise QueueFull
        self.waiting += 1
        try:
            async with self._free:
                await self._free.wait_for(lambda: len(self._generations) < self.slots)
        finally:
            self.waiting -= 1
        reply = make_reply(body, prompt, speaker=self._speaker, seed=self._seed)
        work = Generation(rid, reply)
        self._generations[work] = None
        if self._dead.is_set():
            work.stop(End.CRASHED)
        try:
            yield work
            if work.end is None:
                self.served += 1
                self.prompt_tokens += reply.prompt_tokens
        finally:
            self._generations.pop(work, None)
            async with self._free:
                self._free.notify_all()

    async def tokens(self, work: Generation) -> AsyncGenerator[str, None]:
        """The answer's tokens at the engine's pace, until the end, or until somebody ends it."""
        clock = asyncio.get_running_loop().time
        await work.pause(self.first_token_s * self.slowness)
        due = clock()
        for token in work.reply.tokens:
            await self._gate(work)
            if work.end is not None:
                return
            work.sent += 1
            self.generated_tokens += 1
            yield token
            due = max(due + self.slowness / self.tokens_per_s, clock() - 1.0)
            await work.pause(due - clock())

    async def _gate(self, work: Generation) -> None:
        while not self._thawed.is_set() and work.end is None:
            await work.pause(0.02)

    def abort(self, rid: str | None) -> list[str]:
        """End the generations whose rid begins with `rid` (all: None), as SGLang's scheduler does.

        One whose client has left already is not found any more (SGLang 0.5.18). Returns what was ended.
        """
        ended = [
            work
            for work in self._generations
            if (rid is None or work.rid.startswith(rid)) and work.connected and work.end is None
        ]
        for work in ended:
            work.stop(End.ABORTED)
            self.aborted.append(work.rid)
        return [work.rid for work in ended]

    def left(self, work: Generation) -> None:
        """The client of `work` closed its connection."""
        if work.connected and work.end is None:
            self.abandoned.append(work.rid)
            if self.aborts_on_disconnect:
                work.stop(End.DISCONNECTED)
        work.connected = False

    def crash(self) -> None:
        """End everything that runs or waits, without a word to anybody; nothing is served until `revive`."""
        self._dead.set()
        self._thawed.set()
        for work in self._generations:
            work.stop(End.CRASHED)

    def revive(self) -> None:
        """Serve again after `crash`."""
        self._dead.clear()

    async def idle(self, seconds: float) -> None:
        """Wait, but not longer than the engine lives."""
        try:
            async with asyncio.timeout(seconds):
                await self._dead.wait()
        except TimeoutError:
            pass

    def freeze(self) -> None:
        """Make no token until `thaw`."""
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def frozen(self) -> None:
        """Wait while the engine is frozen."""
        await self._thawed.wait()
