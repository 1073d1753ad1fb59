"""What is watched during a soak, and the verdict: does anything grow? Pure but for the reading of /proc."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import rss_bytes

#: Each series: what it is, and by how much it may differ at rest after the load from at rest before it (None: that says
#: nothing, because an allocator keeps what it has had).
SERIES: Mapping[str, float | None] = {"rss_mb": None, "fds": 4, "threads": 1, "tasks": 4}
#: Growth over the second half that still counts as none: this share of the mean, or this much, whichever is more.
#: Clients come and go at random, so a flat series is not a straight one.
GROWTH_SHARE = 0.05
GROWTH_FLOOR: Mapping[str, float] = {"rss_mb": 3.0, "fds": 15.0, "threads": 1.0, "tasks": 10.0}


@dataclass(frozen=True, slots=True)
class Sample:
    """The proxy's process at one moment. `tasks` is None where it does not tell."""

    at_s: float
    rss_mb: float
    fds: int
    threads: int
    tasks: int | None


def read_sample(at_s: float, pid: int, process: Mapping[str, Any] | None) -> Sample:
    """Look at a process from outside; `process` is what it said of itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    threads = int(status.partition("Threads:")[2].split()[0])
    tasks = None if process is None else process.get("tasks")
    fds = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(at_s, rss_bytes([pid]) / 1e6, fds, threads, tasks if isinstance(tasks, int) else None)


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through the second half of a series: its mean, and how much it rises from there to the end."""

    series: str
    mean: float
    growth: float
    allowed: float
    at_rest: tuple[float, float] | None

    @property
    def is_flat(self) -> bool:
        rest_allowed = SERIES[self.series]
        if self.at_rest is not None and rest_allowed is not None:
            before, after = self.at_rest
            if after - before > rest_allowed:
                return False
        return self.growth <= self.allowed


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line with the least squares through the points; 0 for fewer than two."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def judge(samples: Sequence[Sample], rest: tuple[Sample, Sample]) -> list[Growth]:
    """How each series that was seen has grown over the second half of the samples."""
    found = []
    for name in SERIES:
        points = [(one.at_s, float(value)) for one in samples if (value := getattr(one, name)) is not None]
        half = points[len(points) // 2 :]
        if not half:
            continue
        mean = sum(value for _, value in half) / len(half)
        growth = slope(half) * (half[-1][0] - half[0][0])
        before, after = (getattr(one, name) for one in rest)
        at_rest = None if before is None or after is None else (float(before), float(after))
        allowed = max(mean * GROWTH_SHARE, GROWTH_FLOOR[name])
        found.append(Growth(name, mean, growth, allowed, at_rest))
    return found
