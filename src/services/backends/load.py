"""How busy is an engine? Asks it cheaply: the first path that answers is remembered, and is the only one asked later.

SGLang: `/v1/loads`, `/get_load`, `/metrics`; vLLM: `/metrics`; llama.cpp: `/slots`, `/metrics`; Ollama: `/api/ps`;
text-generation-inference: `/metrics`. What they mean, and in which versions, is in `load_formats`. Where an answer does
not say how many requests the engine takes on at a time, that is asked once.

For llama.cpp this counts as work: one that was started with `--sleep-idle-seconds` does not fall asleep while it is
being asked (llama.cpp, `tools/server/README.md`, 2026-08).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.fetch import Fetch, ProbeResponse, request_headers
from vastproxy.services.backends.load_formats import (
    Load,
    ReadLoad,
    llamacpp_capacity,
    llamacpp_metrics,
    llamacpp_slots,
    ollama_ps,
    sglang_capacity,
    sglang_get_load,
    sglang_loads,
    sglang_metrics,
    tgi_capacity,
    tgi_metrics,
    vllm_metrics,
)
from vastproxy.services.errors import BackendError, ChannelRefused

__all__ = ["Load", "LoadMemory", "LoadMonitor", "Outcome", "learn", "paths_to_ask"]

#: Path -> how its answer is read, in the order in which they are tried.
SOURCES: Mapping[EngineKind, Mapping[str, ReadLoad]] = {
    EngineKind.SGLANG: {
        # Without a section it tells of all, memory and queues too.
        "/v1/loads?include=core": sglang_loads,
        "/get_load": sglang_get_load,
        "/metrics": sglang_metrics,
    },
    EngineKind.VLLM: {"/metrics": vllm_metrics},
    EngineKind.LLAMACPP: {"/slots": llamacpp_slots, "/metrics": llamacpp_metrics},
    EngineKind.OLLAMA: {"/api/ps": ollama_ps},
    EngineKind.TGI: {"/metrics": tgi_metrics},
    EngineKind.OPENAI: {},
}

#: The same for the number of requests that it takes on at a time.
CAPACITIES: Mapping[EngineKind, Mapping[str, Callable[[ProbeResponse], int | None]]] = {
    EngineKind.SGLANG: {"/get_server_info": sglang_capacity, "/server_info": sglang_capacity},
    EngineKind.LLAMACPP: {"/props": llamacpp_capacity},
    EngineKind.TGI: {"/info": tgi_capacity},
}

#: Failures in a row after which the path that worked is not believed to work any more.
FORGET_AFTER = 3
#: Seconds before an engine is asked again that told its load on no path, and one that did not answer.
RETRY_S = 300.0
RETRY_FAILED_S = 30.0


class Outcome(Enum):
    """What came of one question."""

    TOLD = auto()
    ABSENT = auto()
    """It answered, but does not tell its load there."""
    FAILED = auto()
    """It did not answer, or with an error of its own, which may pass."""


@dataclass(frozen=True, slots=True)
class LoadMemory:
    """What is known about where an engine tells its load."""

    path: str | None = None
    failures: int = 0
    rest_until: float = float("-inf")


def paths_to_ask(memory: LoadMemory, kind: EngineKind, now: float) -> tuple[str, ...]:
    """The paths to try now, in this order, until one tells; none while the engine is left alone."""
    if memory.path is not None:
        return (memory.path,)
    return tuple(SOURCES[kind]) if now >= memory.rest_until else ()


def learn(memory: LoadMemory, outcomes: Mapping[str, Outcome], now: float, *, retry_s: float) -> LoadMemory:
    """What is known after these questions. A path that has told is kept through failures, not through an absence."""
    told = next((path for path, outcome in outcomes.items() if outcome is Outcome.TOLD), None)
    if told is not None:
        return LoadMemory(told)
    if not outcomes:
        return memory
    if memory.path is None:
        failed = Outcome.FAILED in outcomes.values()
        return LoadMemory(rest_until=now + (min(retry_s, RETRY_FAILED_S) if failed else retry_s))
    if outcomes.get(memory.path) is Outcome.ABSENT or memory.failures + 1 >= FORGET_AFTER:
        return LoadMemory()
    return replace(memory, failures=memory.failures + 1)


class LoadMonitor:
    """Asks one engine for its load. Make a new one for a new target. `read` must not run twice at the same time."""

    def __init__(
        self,
        target: EngineTarget,
        *,
        configured: int | None = None,
        clock: Callable[[], float] | None = None,
        retry_s: float = RETRY_S,
    ) -> None:
        """`configured` is the capacity that its arguments give it, for engines that do not tell theirs."""
        self.target = target
        self._configured = configured
        self._clock = clock
        self._retry_s = retry_s
        self._memory = LoadMemory()
        self._capacity: int | None = None
        self._capacity_tries = 0

    @property
    def path(self) -> str | None:
        """Where the engine tells its load, once that is known."""
        return self._memory.path

    async def read(self, fetch: Fetch, *, token: str | None, timeout_s: float) -> Load | None:
        """The load now; None when the engine does not tell it. `timeout_s` bounds each question.

        Raises TunnelLost or TunnelRefused when the instance cannot be reached; nothing that the engine does.
        """
        now = self._clock or asyncio.get_running_loop().time
        before = self._memory
        outcomes: dict[str, Outcome] = {}
        load: Load | None = None
        for path in paths_to_ask(before, self.target.kind, now()):
            answer = await self._ask(fetch, path, token, timeout_s)
            load = None if answer is None else SOURCES[self.target.kind][path](answer, now())
            outcomes[path] = _outcome(answer, load)
            if load is not None or answer is None:
                break  # who does not answer on one path will not on the next
        self._memory = learn(before, outcomes, now(), retry_s=self._retry_s)
        if self._memory.path is None and before.path is not None:
            self._capacity, self._capacity_tries = None, 0  # what comes back may be another version
        return None if load is None else await self._with_capacity(load, fetch, token, timeout_s)

    async def _with_capacity(self, load: Load, fetch: Fetch, token: str | None, timeout_s: float) -> Load:
        if load.capacity is not None:
            return load
        if self._capacity is None and self._capacity_tries < FORGET_AFTER:
            await self._ask_capacity(fetch, token, timeout_s)
        return replace(load, capacity=self._capacity if self._capacity is not None else self._configured)

    async def _ask_capacity(self, fetch: Fetch, token: str | None, timeout_s: float) -> None:
        self._capacity_tries += 1
        for path, read in CAPACITIES.get(self.target.kind, {}).items():
            answer = await self._ask(fetch, path, token, timeout_s)
            if answer is None:
                return
            if (capacity := read(answer)) is not None:
                self._capacity = capacity
                return
        self._capacity_tries = FORGET_AFTER  # it has answered, and does not tell

    async def _ask(
        self, fetch: Fetch, path: str, token: str | None, timeout_s: float
    ) -> ProbeResponse | None:
        try:
            return await fetch(self.target.port, path, headers=request_headers(token), timeout_s=timeout_s)
        except (BackendError, ChannelRefused):
            return None


def _outcome(answer: ProbeResponse | None, load: Load | None) -> Outcome:
    if load is not None:
        return Outcome.TOLD
    # 501 is how llama.cpp says that a path is switched off.
    may_pass = answer is None or (answer.status >= 500 and answer.status != 501)
    return Outcome.FAILED if may_pass else Outcome.ABSENT
