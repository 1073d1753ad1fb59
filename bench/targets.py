"""What was aimed at, and whether the figures reach it. Pure: results in, verdicts out."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from bench.figures import Results, ratio


class Verdict(StrEnum):
    """How a target was met."""

    GOAL = "goal reached"
    MET = "met"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure of ours, or its ratio to somebody else's, that shall not be greater than `limit`.

    `goal` is what would be better still. Without a `limit` the goal is all that is asked.
    """

    what: str
    work: str
    figure: str
    ours: str
    limit: float | None
    goal: float | None = None
    theirs: str | None = None
    their_figure: str | None = None
    """The figure that ours is compared with, when it has another name."""
    unit: str = ""

    def seen(self, results: Results) -> float | None:
        """The ratio or the value; None when something it takes was not measured."""
        ours = results.median(self.work, self.ours, self.figure)
        if self.theirs is None:
            return ours
        return ratio(ours, results.median(self.work, self.theirs, self.their_figure or self.figure))

    def verdict(self, results: Results) -> Verdict:
        seen = self.seen(results)
        if seen is None:
            return Verdict.UNKNOWN
        if self.goal is not None and seen <= self.goal:
            return Verdict.GOAL
        if self.limit is not None and seen <= self.limit:
            return Verdict.MET
        return Verdict.MISSED


def scale_name(what: str, unit: str, backends: int) -> str:
    """The name under which a figure of `bench.scale` is kept."""
    return f"{what}, {unit} @ {backends}"


def _over_ssh() -> Iterator[Target]:
    ours, theirs = "vastproxy", "nginx-ssh"
    for work in ("json-1", "json-32", "json-128"):
        what = "over SSH: CPU per request, times nginx + OpenSSH"
        yield Target(what, work, "cpu_us_per_request", ours, 1.5, 1.0, theirs)
    for work in ("sse-400", "sse-4000"):
        yield Target(
            "over SSH: CPU per token, times nginx + OpenSSH", work, "cpu_us_per_token", ours, 0.7, 0.5, theirs
        )
        what = "over SSH: token lag {}, times nginx + OpenSSH"
        yield Target(what.format("p50"), work, "lag_p50_ms", ours, 1.5, 1.0, theirs)
        yield Target(what.format("p99"), work, "lag_p99_ms", ours, 1.0, None, theirs)


def _without_ssh() -> Iterator[Target]:
    ours, theirs = "vastproxy-plain", "vllm-router"
    for work in ("json-1", "json-32", "json-128"):
        what = "without SSH: CPU per request, times vllm-router"
        yield Target(what, work, "cpu_us_per_request", ours, 1.5, 1.0, theirs)
    for work in ("sse-400", "sse-4000"):
        what = "without SSH: CPU per token, times vllm-router"
        yield Target(what, work, "cpu_us_per_token", ours, 1.5, 1.0, theirs)


def _many() -> Iterator[Target]:
    ours = "vastproxy"
    yield Target("5,000 streams: broken", "streams-5000", "broken", ours, 0, 0)
    yield Target("5,000 streams: memory of each", "streams-5000", "kb_per_stream", ours, 20, 15, unit="KB")
    yield Target("10,000 streams: broken", "streams-10000", "broken", ours, None, 0)
    yield Target(
        "10,000 streams: memory of each", "streams-10000", "kb_per_stream", ours, None, 15, unit="KB"
    )
    yield Target(
        "choosing one of 1,000 backends, times choosing one of 3",
        "scale",
        scale_name("lease and release", "µs", 1000),
        ours,
        1.25,
        1.1,
        theirs=ours,
        their_figure=scale_name("lease and release", "µs", 3),
    )
    what = "probing 1,000 backends, share of a core: {}"
    plain = scale_name("probing without SSH", "% of a core", 1000)
    yield Target(what.format("without SSH"), "scale", plain, ours, 10.0, unit="%")
    ssh = scale_name("ssh: probing with keepalives", "% of a core", 1000)
    yield Target(what.format("over SSH"), "scale", ssh, ours, 10.0, unit="%")


TARGETS: tuple[Target, ...] = (*_over_ssh(), *_without_ssh(), *_many())
