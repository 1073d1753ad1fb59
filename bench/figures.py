"""Numbers out of measurements: percentiles, and what several rounds say together. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of sorted `values` do not exceed (nearest rank). Raises for no values."""
    if not values:
        raise ValueError("no values")
    rank = -int(-share * len(values) // 1)  # the ceiling
    return values[min(len(values), max(1, rank)) - 1]


def describe_latency(ns: Iterable[int]) -> dict[str, float] | None:
    """p50, p90, p99 and the longest of times in nanoseconds, as milliseconds; None when there are none."""
    ordered = sorted(ns)
    if not ordered:
        return None
    named = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(percentile(ordered, share) / 1e6, 4) for name, share in named.items()}


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all rounds."""

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Spread | None:
    """The median with the least and the greatest; None when there is nothing."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


class Results:
    """The samples of a run, by work, contender and figure."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._values: dict[tuple[str, str, str], list[float]] = {}
        self._errors: dict[tuple[str, str], str] = {}
        for sample in document.get("samples", ()):
            self._read(sample)

    def _read(self, sample: Mapping[str, Any]) -> None:
        work, contender = sample["work"], sample["contender"]
        if sample.get("error"):
            self._errors[work, contender] = sample["error"]
        for name, value in (sample.get("figures") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._values.setdefault((work, contender, name), []).append(float(value))

    def get(self, work: str, contender: str, figure: str) -> Spread | None:
        """None when it was not measured."""
        return spread(self._values.get((work, contender, figure), ()))

    def median(self, work: str, contender: str, figure: str) -> float | None:
        found = self.get(work, contender, figure)
        return None if found is None else found.median

    def error(self, work: str, contender: str) -> str | None:
        """Why a contender has no figures for a work."""
        return self._errors.get((work, contender))

    @property
    def works(self) -> list[str]:
        """In the order in which they were run."""
        return list(dict.fromkeys(sample["work"] for sample in self.document.get("samples", ())))

    def contenders(self, work: str) -> list[str]:
        samples = self.document.get("samples", ())
        return list(dict.fromkeys(sample["contender"] for sample in samples if sample["work"] == work))


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """How many times theirs; None when one is missing or theirs is nothing."""
    if ours is None or theirs is None or theirs <= 0:
        return None
    return ours / theirs
