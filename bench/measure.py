"""One sample: start a contender, warm it up, load it, and take its figures.

Figures (absent ones were not measured): `requests`, `seconds`, `rps`, `cpu_us_per_request`, `cpu_ms_per_mb`, `p50_ms`,
`p90_ms`, `p99_ms`, `errors`; `tokens`, `tokens_per_s`, `cpu_us_per_token`, `lag_p50_ms`, `lag_p99_ms`, `lag_max_ms`,
`first_token_p50_ms`, `first_token_p99_ms`, `kb_per_stream`, `complete`, `broken`; and for all of them
`contender_cpu_share` (of one core), `core0_share`, `core1_share`, `engine_cpu_share`, `rss_mb`, `log_lines`.
"""

import json
import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bench.answers import chat_request
from bench.console import say
from bench.contenders.base import CLIENT_KEY, Contender, Running
from bench.contenders.vastproxy import compiled_tree, python_of
from bench.engines import Engines, small_answers, streaming
from bench.http_load import HttpLoad
from bench.machine import CoreWatch
from bench.processes import CONTENDER_CORE, HELPERS_CORE, BenchError, cpu_ns, rss_bytes, wait
from bench.targets import scale_name
from bench.works import HttpWork, IdleWork, ScaleWork, StreamWork, Work

Figures = dict[str, float]

#: Longest wait for the first token of the last stream, and longer than its length for its end.
_OPEN_LIMIT_S = 30.0
_FINISH_LIMIT_S = 20.0
_SETTLE_S = 1.0
#: Real SSH connections in a large fleet; what a thousand cost is reckoned from them.
_SSH_BACKENDS = 64


@dataclass(frozen=True, slots=True)
class Durations:
    """How long a sample is warmed up and measured."""

    warm_up_s: float = 2.0
    measure_s: float = 8.0


class Meter:
    """What the contender and the cores do, from `start` to `stop`."""

    def __init__(self, running: Running, engines: Engines) -> None:
        self._running = running
        self._engines = engines
        self.rss_before = rss_bytes(running.pids())

    def start(self) -> None:
        self._pids = self._running.pids()
        self._engine_pids = self._engines.program.pids()
        self._lines = count_lines(self._running.access_log)
        self._cores = CoreWatch(HELPERS_CORE), CoreWatch(CONTENDER_CORE)
        self._cpu = cpu_ns(self._pids)
        self._engine_cpu = cpu_ns(self._engine_pids)
        self._began = time.monotonic()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._began
        self.cpu_us = (cpu_ns(self._pids) - self._cpu) / 1000
        self._engine_us = (cpu_ns(self._engine_pids) - self._engine_cpu) / 1000
        self._shares = self._cores[0].share(), self._cores[1].share()
        self.rss = rss_bytes(self._pids)

    def figures(self) -> Figures:
        """What holds for every work."""
        us = self.seconds * 1e6
        found = {
            "contender_cpu_share": self.cpu_us / us,
            "engine_cpu_share": self._engine_us / us,
            "core0_share": self._shares[0],
            "core1_share": self._shares[1],
            "rss_mb": self.rss / 1e6,
        }
        if self._running.access_log is not None:
            wait(1.2)  # nginx flushes its log once a second
            found["log_lines"] = count_lines(self._running.access_log) - self._lines
        return found


def count_lines(path: Path | None) -> int:
    """Lines in a file that may not exist."""
    if path is None or not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def measure(work: Work, contender: Contender, directory: Path, durations: Durations) -> Figures:
    """One sample. Everything that runs for it has ended afterwards. Raises BenchError."""
    if isinstance(work, ScaleWork):
        return measure_scale(durations)
    with ExitStack() as stack:
        engines = stack.enter_context(_engines(work, directory))
        running = stack.enter_context(contender.start(directory, engines))
        meter = Meter(running, engines)
        if isinstance(work, HttpWork):
            return measure_http(work, running, meter, directory, durations)
        if isinstance(work, StreamWork):
            return measure_streams(work, running, meter, directory, durations)
        return measure_idle(meter, durations)


def _engines(work: HttpWork | StreamWork | IdleWork, directory: Path) -> Any:
    if isinstance(work, StreamWork):
        return streaming(directory, rate=work.rate, answer_bytes=500)
    if isinstance(work, IdleWork) or work.is_small:
        return small_answers(directory)
    return streaming(directory, rate=30.0, answer_bytes=work.answer_bytes)


def measure_http(
    work: HttpWork, running: Running, meter: Meter, directory: Path, durations: Durations
) -> Figures:
    """Requests one after the other on each connection."""
    body = chat_request(prompt_bytes=work.request_bytes)
    load = HttpLoad(directory, running.url, body=body, key=CLIENT_KEY, connections=work.connections)
    load.run(durations.warm_up_s)
    meter.start()
    seen = load.run(durations.measure_s)
    meter.stop()
    if not seen.requests:
        raise BenchError(f"no request was answered; {seen.errors} errors")
    figures = {
        "requests": float(seen.requests),
        "seconds": seen.seconds,
        "rps": seen.per_second,
        "p50_ms": seen.p50_ms,
        "p90_ms": seen.p90_ms,
        "p99_ms": seen.p99_ms,
        "errors": float(seen.errors),
        **meter.figures(),
    }
    if running.programs:
        figures["cpu_us_per_request"] = meter.cpu_us / seen.requests
        figures["cpu_ms_per_mb"] = (
            meter.cpu_us / 1000 / (seen.requests * (work.request_bytes + work.answer_bytes) / 1e6)
        )
    return figures


def measure_streams(
    work: StreamWork, running: Running, meter: Meter, directory: Path, durations: Durations
) -> Figures:
    """Many streams at once, measured while all of them are open."""
    _warm_up_streams(directory, running.url, durations)
    meter.rss_before = rss_bytes(running.pids())
    # Longer than needed: where opening is slow, the first streams must not end before the last have begun.
    lasts_s = 1.5 * work.ramp_s + _SETTLE_S + durations.measure_s + 2.0
    with SseLoad(
        directory, running.url, work.streams, tokens=max(2, round(lasts_s * work.rate)), ramp_s=work.ramp_s
    ) as load:
        opened = load.expect("open", limit_s=work.ramp_s + _OPEN_LIMIT_S + 10)
        if not opened["started"]:
            raise BenchError(f"no stream got a token: {opened['broken']}")
        wait(_SETTLE_S)
        meter.start()
        load.tell("begin")
        wait(durations.measure_s)
        meter.stop()
        load.tell("end")
        window = load.expect("window", limit_s=20)
        load.tell("finish")
        finished = load.expect("finished", limit_s=load.finish_limit_s + 10)
    broken = sum(finished["broken"].values()) + finished["unfinished"]
    if broken:
        reasons = {**finished["broken"], "not ended in time": finished["unfinished"]}
        say(f"  {broken} of {work.streams} streams did not end well: {reasons}")
    lag, first = window["lag"] or {}, opened["first_token"] or {}
    figures = {
        "tokens": float(window["tokens"]),
        "seconds": window["seconds"],
        "tokens_per_s": window["tokens"] / window["seconds"],
        **{f"lag_{name}": value for name, value in lag.items()},
        **{f"first_token_{name}": value for name, value in first.items()},
        "complete": float(finished["complete"]),
        "broken": float(broken),
        **meter.figures(),
    }
    if running.programs:
        figures["kb_per_stream"] = (meter.rss - meter.rss_before) / 1000 / work.streams
        if window["tokens"]:
            figures["cpu_us_per_token"] = meter.cpu_us / window["tokens"]
    return figures


def _warm_up_streams(directory: Path, url: str, durations: Durations) -> None:
    """A few short streams, so that code, pools and tables are warm, and memory counts from there."""
    with SseLoad(
        directory, url, 20, tokens=max(2, round(durations.warm_up_s)), ramp_s=durations.warm_up_s / 2
    ) as load:
        load.expect("open", limit_s=_OPEN_LIMIT_S + 10)
        load.tell("finish")
        load.expect("finished", limit_s=load.finish_limit_s + 10)


def measure_idle(meter: Meter, durations: Durations) -> Figures:
    """Nothing but its own housekeeping, as long as the other works are measured."""
    wait(durations.warm_up_s)
    meter.start()
    wait(durations.measure_s)
    meter.stop()
    return {"seconds": meter.seconds, **meter.figures()}


def measure_scale(durations: Durations) -> Figures:
    """The figures of `bench.scale`, as `<what>, <unit> @ <backends>`."""
    python, variables = python_of(compiled_tree(), "bench.scale")
    argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(CONTENDER_CORE), *python]
    argv += ["--seconds", str(max(5.0, 2 * durations.measure_s))]
    argv += ["--ssh-backends", str(_SSH_BACKENDS)]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=os.environ | variables,
        )
    except subprocess.TimeoutExpired:
        raise BenchError("bench.scale did not end within 300 s") from None
    if done.returncode:
        raise BenchError(f"bench.scale failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    document = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        scale_name(one["what"], one["unit"], one["backends"]): float(one["value"])
        for one in document["figures"]
    }


class SseLoad:
    """The process that opens streams (`bench.sse_load`), and the talk with it."""

    def __init__(self, directory: Path, url: str, streams: int, *, tokens: int, ramp_s: float) -> None:
        self._log = directory / "sse_load.log"
        self._argv = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(HELPERS_CORE)]
        self._argv += [sys.executable, "-m", "bench.sse_load", url, str(streams), "--tokens", str(tokens)]
        self._argv += ["--key", CLIENT_KEY, "--ramp", str(ramp_s), "--open-limit", str(_OPEN_LIMIT_S)]
        #: The last stream begins at the end of the ramp and lasts as long as the first.
        self.finish_limit_s = ramp_s + _FINISH_LIMIT_S
        self._argv += ["--finish-limit", str(self.finish_limit_s)]

    def __enter__(self) -> "SseLoad":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, word: str) -> None:
        stdin = _stream(self._process.stdin)
        stdin.write(word + "\n")
        stdin.flush()

    def expect(self, event: str, *, limit_s: float) -> dict[str, Any]:
        """The next thing it says, which must be this. Raises BenchError."""
        stdout = _stream(self._process.stdout)
        if not select.select([stdout], [], [], limit_s)[0]:
            raise BenchError(f"the streams' load said nothing of {event!r} within {limit_s:g} s")
        line = stdout.readline()
        said: dict[str, Any] = json.loads(line) if line.strip() else {"event": "its end"}
        if said["event"] != event:
            raise BenchError(f"the streams' load said {said['event']!r} and not {event!r}")
        return said


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
