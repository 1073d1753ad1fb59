"""One run of the simulation: a policy, a fleet and a workload, from the first request to the last answer.

The policy is the real one, with the speeds that the real `SpeedBook` measures from the answers. In front of it is one
queue, first come first served, for when nobody has a place.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from bench.figures import percentile
from bench.policies_engine import Job, Machine, SimulatedEngine
from bench.policies_workloads import Conversation
from vastproxy.services.routing.hints import BLOCKS
from vastproxy.services.routing.policies.make import make_policy
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.speed import Answer, SpeedBook
from vastproxy.settings.routing import RoutingSettings

#: How often engines are asked for their queue, as engines.load_interval_s says by default.
SAMPLE_S = 5.0
#: Where prompts are hashed, in blocks of the cache: each is 256 bytes of text, and 64 KB are looked at.
_ENDS = [end // BLOCKS[0] for end in accumulate(BLOCKS)]

#: An 8B model in 16 bits. Steps as engines show them: the weights are read once for all, each request adds its own.
_4090 = Machine("RTX 4090", 0.40, 9_000, 0.020, 0.00045, 48, 60_000)
_H100 = Machine("H100", 2.20, 32_000, 0.0075, 0.00012, 192, 450_000)
_A5000 = Machine("RTX A5000", 0.55, 3_500, 0.030, 0.00110, 24, 45_000)

#: Four 4090s, an H100, and one that is slow and, for what it does, dear.
FLEET: tuple[Machine, ...] = (_4090, _4090, _4090, _4090, _H100, _A5000)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    requests: int
    ttft_p50_s: float
    ttft_p99_s: float
    queue_p50_s: float
    queue_p99_s: float
    """Waiting, in the proxy and in the engine, until the computing of the prompt began."""
    hit_rate: float
    """Share of the prompts' tokens that needed no computing."""
    dollars_per_million: float
    """Per million tokens of answers, for the time in which a machine had anything to do."""
    hours: float
    """From the first request to the last answer."""
    shares: dict[str, float]
    """Share of the requests by kind of machine, per machine."""


def simulate(
    policy: str, conversations: Sequence[Conversation], *, seed: int, fleet: Sequence[Machine] = FLEET
) -> Outcome:
    """Run `conversations` through `policy`, a name as in `routing.policy`. The same arguments give the same
    outcome."""
    return _Run(policy, conversations, seed, fleet).run()


class _Run:
    def __init__(
        self, policy: str, conversations: Sequence[Conversation], seed: int, fleet: Sequence[Machine]
    ) -> None:
        settings = RoutingSettings.model_validate({"policy": policy})
        self._policy = make_policy(settings, random.Random(seed))
        self._engines = {key: SimulatedEngine(key, machine) for key, machine in enumerate(fleet, start=1)}
        self._speeds = SpeedBook()
        self._queue: deque[tuple[Job, Hint]] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._now = 0.0
        self._open = len(conversations)
        self._done: list[Job] = []
        for engine in self._engines.values():
            self._policy.offer(engine)
        for each in conversations:
            self._at(each.begins, partial(self._ask, each, 0, each.shared))
        self._at(0.0, self._sample)

    def run(self) -> Outcome:
        while self._open:
            at, engine = min((each.next_event(), key) for key, each in self._engines.items())
            if self._events and self._events[0][0] <= at:
                self._now, _, act = heapq.heappop(self._events)
                act()
            else:
                self._now = at
                self._engines[engine].advance(at)
        return self._outcome()

    def _at(self, at: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, act))

    def _ask(self, conversation: Conversation, number: int, said: tuple[int, ...]) -> None:
        turn = conversation.turns[number]
        job = Job(said + turn.new, turn.answer, turn.answer_tokens, arrived=self._now)
        job.on_end = partial(self._answered, conversation, number)
        hashes = tuple(job.prompt[end - 1] for end in _ENDS if end <= len(job.prompt))
        self._queue.append((job, Hint(hashes)))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue:
            job, hint = self._queue[0]
            for engine in self._engines.values():
                engine.speed = self._speeds.speed(engine.key)
            choice = self._policy.choose(hint, self._now)
            if choice is None:
                return
            self._queue.popleft()
            engine = self._engines[choice.candidate.key]
            job.on_end = partial(self._ended, engine, job.on_end)
            engine.submit(job, self._now)
            self._policy.assigned(engine.key, hint, self._now)

    def _ended(self, engine: SimulatedEngine, then: Callable[[Job], None], job: Job) -> None:
        among = (job.began_among + engine.in_flight + 1) / 2
        seconds = job.ended - job.first_token
        self._speeds.observe(engine.key, Answer(seconds, among, tokens=job.answer_tokens))
        self._policy.finished(engine.key, self._now)
        self._done.append(job)
        then(job)
        self._at(self._now, self._dispatch)  # when the engine has done with this moment

    def _answered(self, conversation: Conversation, number: int, job: Job) -> None:
        if number + 1 == len(conversation.turns):
            self._open -= 1
            return
        pause = conversation.turns[number + 1].pause_s
        self._at(self._now + pause, partial(self._ask, conversation, number + 1, job.prompt + job.answer))

    def _sample(self) -> None:
        for engine in self._engines.values():
            engine.advance(self._now)
            engine.sample(self._now)
        self._at(self._now + SAMPLE_S, self._sample)

    def _outcome(self) -> Outcome:
        jobs, engines = self._done, list(self._engines.values())
        ttft = sorted(job.first_token - job.arrived for job in jobs)
        queued = sorted(job.began - job.arrived for job in jobs)
        prompts = sum(len(job.prompt) for job in jobs)
        dollars = sum(each.busy_s / 3600 * each.machine.hourly_cost for each in engines)
        machines: dict[str, list[int]] = {}
        for each in engines:
            machines.setdefault(each.machine.name, []).append(each.served)
        return Outcome(
            requests=len(jobs),
            ttft_p50_s=percentile(ttft, 0.5),
            ttft_p99_s=percentile(ttft, 0.99),
            queue_p50_s=percentile(queued, 0.5),
            queue_p99_s=percentile(queued, 0.99),
            hit_rate=sum(job.cached_blocks for job in jobs) / prompts,
            dollars_per_million=dollars / sum(job.answer_tokens for job in jobs) * 1e6,
            hours=self._now / 3600,
            shares={name: sum(served) / len(served) / len(jobs) for name, served in machines.items()},
        )
