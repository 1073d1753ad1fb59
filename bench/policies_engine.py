"""An inference engine for the simulation of policies: what it does to a request's time, and nothing else.

Continuous batching as vLLM and SGLang do it, in three rules. Requests wait until one of `max_running` places is free.
Prompts are computed one after the other, less the blocks at their beginning that are in the cache; meanwhile answers
go on at half speed (chunked prefill). A step of decoding takes `step_s`, and `step_per_request_s` more for each request
in the batch, and gives each of them one token. The cache holds blocks, and forgets the least recently used.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

#: Tokens in a block of the prefix cache. Engines have 1 to 64.
BLOCK_TOKENS = 64
_SLOWED_BY_PREFILL = 0.5
#: Progress that counts as the same, so that rounding cannot keep a finished request.
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Machine:
    """One kind of machine with an 8B model on it."""

    name: str
    hourly_cost: float
    prefill_rate: float
    """Tokens of prompt per second."""
    step_s: float
    step_per_request_s: float
    max_running: int
    cache_tokens: int


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way."""

    prompt: tuple[int, ...]
    """Names of its blocks; two prompts that begin alike begin with the same names."""
    answer: tuple[int, ...]
    """Names of the blocks that the answer adds."""
    answer_tokens: int
    arrived: float = 0.0
    """When the proxy got it."""
    began: float = 0.0
    """When the computing of its prompt began."""
    first_token: float = 0.0
    ended: float = 0.0
    cached_blocks: int = 0
    began_among: int = 1
    """Requests at the engine when it was sent, itself included."""
    on_end: Callable[["Job"], None] = field(default=lambda job: None, repr=False)


class SimulatedEngine:
    """A candidate, and what happens behind it. Time is whatever `advance` is told."""

    def __init__(self, key: int, machine: Machine) -> None:
        self.key = self.instance_id = key
        self.machine = machine
        self.limit: int | None = machine.max_running
        self.hourly_cost: float | None = machine.hourly_cost
        self.speed = 1.0
        self.weight = 1.0
        self.in_flight = 0
        self.waiting: int | None = None
        self.waiting_at = float("-inf")
        self.busy_s = 0.0
        self.served = 0
        self._now = 0.0
        self._queue: deque[Job] = deque()
        self._prefilling: Job | None = None
        self._prefill_left = 0.0
        self._steps = 0.0
        """Tokens that a request decoded since the beginning would have."""
        self._decoding: list[tuple[float, int, Job]] = []
        self._number = 0
        self._cache: OrderedDict[int, None] = OrderedDict()

    def submit(self, job: Job, now: float) -> None:
        """A request comes. `now` is not before the last `advance`."""
        self.advance(now)
        self.in_flight += 1
        self.served += 1
        job.began_among = self.in_flight
        self._queue.append(job)
        self._admit()

    def next_event(self) -> float:
        """When something happens by itself; inf for never."""
        times = [float("inf")]
        if self._prefilling is not None:
            times.append(self._now + self._prefill_left / self.machine.prefill_rate)
        if self._decoding:
            left = max(0.0, self._decoding[0][0] - self._steps)
            times.append(self._now + left / self._rate())
        return min(times)

    def advance(self, now: float) -> None:
        """Let time pass up to `now`."""
        while (at := self.next_event()) <= now:
            self._pass(at)
            self._settle()
        self._pass(now)

    def sample(self, now: float) -> None:
        """Tell its queue, as engines do when they are asked."""
        self.waiting, self.waiting_at = len(self._queue), now

    def _rate(self) -> float:
        machine = self.machine
        rate = 1 / (machine.step_s + machine.step_per_request_s * len(self._decoding))
        return rate * _SLOWED_BY_PREFILL if self._prefilling is not None else rate

    def _pass(self, until: float) -> None:
        """Nothing happens before `until`."""
        span = until - self._now
        if self.in_flight:
            self.busy_s += span
        if self._decoding:
            self._steps += span * self._rate()
        if self._prefilling is not None:
            self._prefill_left -= span * self.machine.prefill_rate
        self._now = until

    def _settle(self) -> None:
        job = self._prefilling
        if job is not None and self._prefill_left <= _TINY * self.machine.prefill_rate:
            self._prefilling = None
            job.first_token = self._now
            self._remember(job.prompt)
            self._number += 1
            heapq.heappush(self._decoding, (self._steps + job.answer_tokens, self._number, job))
        while self._decoding and self._decoding[0][0] <= self._steps + _TINY:
            job = heapq.heappop(self._decoding)[2]
            job.ended = self._now
            self.in_flight -= 1
            self._remember(job.prompt + job.answer)
            job.on_end(job)
        self._admit()

    def _admit(self) -> None:
        running = len(self._decoding)
        if self._prefilling is None and self._queue and running < self.machine.max_running:
            job = self._queue.popleft()
            job.began = self._now
            job.cached_blocks = self._cached(job.prompt)
            self._prefilling = job
            self._prefill_left = float(max(1, (len(job.prompt) - job.cached_blocks) * BLOCK_TOKENS))

    def _cached(self, prompt: tuple[int, ...]) -> int:
        """Blocks at the beginning that need no computing."""
        for number, block in enumerate(prompt):
            if block not in self._cache:
                return number
        return len(prompt)

    def _remember(self, blocks: tuple[int, ...]) -> None:
        """From the end to the beginning, so that a prompt loses its end first."""
        for block in reversed(blocks):
            self._cache[block] = None
            self._cache.move_to_end(block)
        while len(self._cache) * BLOCK_TOKENS > self.machine.cache_tokens:
            self._cache.popitem(last=False)
