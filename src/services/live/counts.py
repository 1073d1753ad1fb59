"""What the counters of requests say at one moment, and what two such moments say of the time between. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from vastproxy.services.live.blame import is_failure
from vastproxy.services.metrics.requests import TTFT_BOUNDS, RequestMetrics


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over all requests that have ended since the start. `ttft`: how many streams began their answer within each
    of the bounds of the histogram."""

    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    ttft: tuple[int, ...] = field(default=(0,) * (len(TTFT_BOUNDS) + 1))


NOTHING = Counts()


def counts_of(metrics: RequestMetrics) -> Counts:
    """As they stand."""
    requests = errors = tokens_in = tokens_out = 0
    ttft = [0] * (len(TTFT_BOUNDS) + 1)
    for one in metrics.series():
        number = sum(one.durations)
        requests += number
        tokens_in += one.tokens_in
        tokens_out += one.tokens_out
        if one.error and is_failure(int(one.code) if one.code.isdigit() else 0, one.error):
            errors += number
        if one.ttft_s:
            ttft = [a + b for a, b in zip(ttft, one.ttft_counts, strict=True)]
    return Counts(requests, errors, tokens_in, tokens_out, tuple(ttft))


def ttft_quantile_s(before: Counts, after: Counts, share: float) -> float | None:
    """The time to the first byte that this share of the streams between the two moments stayed below; None where there
    was none. As exact as the histogram: within a bucket the values are taken to lie evenly."""
    counts = [b - a for a, b in zip(before.ttft, after.ttft, strict=True)]
    return quantile(TTFT_BOUNDS, counts, share)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Of a histogram with these upper `bounds`; its last bucket has none, what lies there counts as the last bound."""
    total = sum(counts)
    if total <= 0:
        return None
    wanted = share * total
    for number, below in enumerate(accumulate(counts)):
        if below >= wanted and counts[number]:
            if number >= len(bounds):
                break
            low = bounds[number - 1] if number else 0.0
            inside = (wanted - (below - counts[number])) / counts[number]
            return low + (bounds[number] - low) * max(inside, 0.0)
    return bounds[-1]
