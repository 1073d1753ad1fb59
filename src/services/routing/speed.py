"""How fast each target generates, from the answers that it gave: one number to compare them by.

What an answer shows is the time for a token at the load that the target had just then. Engines batch: the time of a
step is t0 + t1 · b with b requests in the batch, so a busy target shows less for each request though it does more in
all. So times are kept together with their concurrency, a line is laid through them, and targets are compared at the
same point of it: tokens per second in all at `REFERENCE` requests at a time. Nothing is learnt, and nothing forgotten,
while there is no work.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from vastproxy.services.routing.candidate import instance_of

#: Requests at a time at which targets are compared: where a shared pool works, and beyond the first few that cost
#: nothing.
REFERENCE = 16
#: t0 / t1 until a target shows its own: the number of requests that doubles the time of a step. 8B models on one GPU
#: stand between 16 and 64.
_TYPICAL_RATIO = 32.0
#: Variance of the concurrency at which its own slope counts as much as the typical one.
_TRUST_VARIANCE = 16.0
#: A new answer's share of the average; half of what is known is from the last ten.
_ALPHA = 0.07
#: Answers that a prior counts for.
_PRIOR_COUNT = 3.0
#: An answer further from the average than this counts as if it were just there: a stalled client, a cached answer.
_MOST_OFF = 4.0
#: Shorter answers show how long it took to begin.
MIN_TOKENS = 8.0
MIN_SECONDS = 0.05
#: Bytes of an answer for each of its tokens, until answers show it: OpenAI-shaped events, one token each, and plain
#: text.
_STREAMED_BYTES = 230.0
_PLAIN_BYTES = 4.5
_RENEWED_PER_TARGETS = 8
#: A machine is given this share of the work of one without fault, at least: who gets nothing cannot become better.
LEAST_SCORE = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer shows. An answer that broke off counts as far as it came."""

    seconds: float
    """Of generating: from the first byte of the answer to its last; without streaming from the request's end."""
    concurrency: float
    """Requests in flight at the target meanwhile, this one included: the mean of beginning and end will do."""
    tokens: int | None = None
    """As the engine counted them; None when it did not tell."""
    answer_bytes: int = 0
    streamed: bool = True


class _Line:
    """Exponentially weighted line through (concurrency, seconds per token)."""

    __slots__ = ("_b", "_bb", "_by", "_y", "count")

    def __init__(self) -> None:
        self.count = 0
        self._b = self._y = self._bb = self._by = 0.0

    def add(self, b: float, y: float) -> None:
        if self.count >= _PRIOR_COUNT:
            expected = self.at(b)
            y = min(max(y, expected / _MOST_OFF), expected * _MOST_OFF)
        self.count += 1
        share = max(_ALPHA, 1 / self.count)  # a plain mean as long as there are few
        self._b += share * (b - self._b)
        self._y += share * (y - self._y)
        self._bb += share * (b * b - self._bb)
        self._by += share * (b * y - self._by)

    def at(self, b: float) -> float:
        """Seconds per token at `b` requests at a time."""
        variance = max(0.0, self._bb - self._b * self._b)
        typical = self._y / (_TYPICAL_RATIO + self._b)
        slope = (self._by - self._b * self._y + _TRUST_VARIANCE * typical) / (variance + _TRUST_VARIANCE)
        slope = min(max(slope, 0.0), self._y / max(self._b, 1.0))  # neither step nor request is free
        return max(self._y + slope * (b - self._b), self._y / _MOST_OFF)


class SpeedBook:
    """The measured speed of every target, by key. All of one book are comparable."""

    def __init__(self, *, max_targets: int = 4096) -> None:
        """`max_targets`: those heard of least recently are forgotten beyond it."""
        self._max = max_targets
        self._lines: OrderedDict[int, _Line] = OrderedDict()
        self._prior = 1.0
        self._until_renewed = 0
        self._bytes = {True: _STREAMED_BYTES, False: _PLAIN_BYTES}
        self.scores: Mapping[int, float] = {}
        """By instance id: how far its machine can be relied on, 0 to 1; those that are not in it count as 1."""

    def __len__(self) -> int:
        return len(self._lines)

    def observe(self, key: int, answer: Answer) -> None:
        """Learn from an answer of `key`. Too short a one teaches nothing."""
        tokens = self._tokens(answer)
        usable = math.isfinite(answer.seconds) and answer.seconds >= MIN_SECONDS
        if tokens < MIN_TOKENS or not usable or answer.concurrency < 1:
            return
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
            if len(self._lines) > self._max:
                self._lines.popitem(last=False)
        self._lines.move_to_end(key)
        line.add(answer.concurrency, answer.seconds / tokens)
        self._until_renewed -= 1

    def forget(self, key: int) -> None:
        """It will not come back, or as something else."""
        if self._lines.pop(key, None) is not None:
            self._until_renewed = 0

    def speed(self, key: int) -> float:
        """Tokens per second in all, at `REFERENCE` requests at a time, times the score of its machine; above 0. One
        that is new begins with the median of the others, and with 1 while nobody is known."""
        measured = self._measured(key)
        return (
            measured
            if not self.scores
            else measured * max(self.scores.get(instance_of(key), 1.0), LEAST_SCORE)
        )

    def _measured(self, key: int) -> float:
        if self._until_renewed <= 0:
            self._renew()
        line = self._lines.get(key)
        if line is None:
            return self._prior
        own = _speed(line)
        return (own * line.count + self._prior * _PRIOR_COUNT) / (line.count + _PRIOR_COUNT)

    def is_measured(self, key: int) -> bool:
        """Has it answered often enough to be known by its own answers?"""
        line = self._lines.get(key)
        return line is not None and line.count >= _PRIOR_COUNT

    def _renew(self) -> None:
        """The median as of an eighth of as many answers as there are targets."""
        self._until_renewed = max(1, len(self._lines) // _RENEWED_PER_TARGETS)
        speeds = sorted(_speed(line) for line in self._lines.values())
        if speeds:
            self._prior = (speeds[(len(speeds) - 1) // 2] + speeds[len(speeds) // 2]) / 2

    def _tokens(self, answer: Answer) -> float:
        if answer.tokens is None:
            return answer.answer_bytes / self._bytes[answer.streamed]
        if answer.tokens >= MIN_TOKENS and answer.answer_bytes > 0:
            ratio = answer.answer_bytes / answer.tokens
            self._bytes[answer.streamed] += _ALPHA * (ratio - self._bytes[answer.streamed])
        return float(answer.tokens)


def _speed(line: _Line) -> float:
    return REFERENCE / line.at(REFERENCE)
