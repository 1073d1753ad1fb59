"""What the contenders are asked to do."""

from dataclasses import dataclass

from bench.contenders.all import CONTENDERS, DIRECT

KIB = 1024
MIB = 1024 * KIB

#: Three contenders over SSH are asked for the largest numbers of streams; the others are measured up to 4,000.
_OVER_SSH = tuple(name for name, contender in CONTENDERS.items() if contender.over_ssh)


@dataclass(frozen=True, slots=True)
class HttpWork:
    """Whole requests, as many as go, on a fixed number of connections."""

    name: str
    title: str
    connections: int
    request_bytes: int = 16
    answer_bytes: int = 500
    contenders: tuple[str, ...] = tuple(CONTENDERS)

    @property
    def is_small(self) -> bool:
        return self.request_bytes <= KIB and self.answer_bytes <= KIB


@dataclass(frozen=True, slots=True)
class StreamWork:
    """Concurrent streams, each at `rate` tokens a second."""

    name: str
    title: str
    streams: int
    rate: float
    ramp_s: float
    contenders: tuple[str, ...] = tuple(CONTENDERS)


@dataclass(frozen=True, slots=True)
class IdleWork:
    """Nothing is asked: what probes, polls and keep-alives cost."""

    name: str
    title: str
    contenders: tuple[str, ...] = tuple(name for name in CONTENDERS if name != DIRECT)


@dataclass(frozen=True, slots=True)
class ScaleWork:
    """What a large fleet costs; measured by `bench.scale` in a process of its own."""

    name: str
    title: str
    contenders: tuple[str, ...] = ("vastproxy",)


Work = HttpWork | StreamWork | IdleWork | ScaleWork

WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        HttpWork("json-1", "small JSON, 1 connection", 1),
        HttpWork("json-32", "small JSON, 32 connections", 32),
        HttpWork("json-128", "small JSON, 128 connections", 128),
        StreamWork("sse-400", "400 streams of 30 tokens/s", 400, rate=30.0, ramp_s=2.0),
        StreamWork("sse-4000", "4,000 streams of 3 tokens/s", 4000, rate=3.0, ramp_s=8.0),
        HttpWork("upload", "1 MB prompts, 8 connections", 8, request_bytes=1_000_000),
        HttpWork("download", "20 MB answers, 4 connections", 4, answer_bytes=20_000_000),
        StreamWork(
            "streams-5000", "5,000 streams of 1 token/s", 5000, rate=1.0, ramp_s=10.0, contenders=_OVER_SSH
        ),
        StreamWork(
            "streams-10000",
            "10,000 streams of 1 token every 2 s",
            10_000,
            rate=0.5,
            ramp_s=20.0,
            contenders=_OVER_SSH,
        ),
        IdleWork("idle", "nothing is asked"),
        ScaleWork("scale", "a fleet of 1,000 backends"),
    )
}
