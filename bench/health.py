"""How long does `/healthz` take to answer while the process has more to do than it can?

    python -m bench.health
    python -m bench.health --streams 200 --clients 64 --seconds 10

One `vastproxy serve` with two instances over SSH, alone on its core: streams at 30 tokens a second, beside clients
that ask for whole answers one after the other without pause. Clients that list the models without pause take what is
left of the core: what goes to an engine costs more of the helpers' core than of the proxy's. Meanwhile one more
client asks for `/healthz`, every 50 ms, in turn on a connection of its own (`new`, as monitoring does) and on one that
stays (`kept`). `quiet` is the same without load. `CPU` is what the proxy used of its core, `wants` what it used or
waited for because somebody else was there too. Prints a table, then one line of JSON; ends with 1 when the slowest
answer took longer than `--limit-ms`, or when the process was not saturated, so that the figures mean nothing.

The proxy is on core 1, everything else on core 0; who asks for `/healthz` has the right of way there, so that it is
the proxy that is measured.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.answers import chat_request
from bench.console import say
from bench.contenders.base import CLIENT_KEY, Running
from bench.contenders.vastproxy import start
from bench.engines import streaming
from bench.figures import describe_latency
from bench.http_load import HttpFigures, HttpLoad
from bench.machine import describe_machine, raise_file_limit
from bench.measure import SseLoad
from bench.processes import HELPERS_CORE, BenchError, Program, wait

_TOKENS_PER_S = 30.0
_ASK_EVERY_S = 0.05
_OPEN_LIMIT_S = 40.0
_ASK_TIMEOUT_S = 10.0
#: Wanting less than this share of its core, the process had time to spare.
SATURATED = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """How one kind of connection was answered under one load. `share`: of its core that the proxy used; `wanted`: that
    it used or waited for, because somebody else was there."""

    load: str
    connection: str
    answers: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    share: float
    wanted: float
    requests_per_s: float
    token_lag_p99_ms: float


class Asker(threading.Thread):
    """Asks for `/healthz` until it is told to stop. `taken_ns` by kind of connection; `problems`: what was no 200."""

    def __init__(self, url: str) -> None:
        super().__init__(name="asker")
        address = urlsplit(url)
        self._address = (address.hostname or "127.0.0.1", address.port or 80)
        self._over = threading.Event()
        self.taken_ns: dict[str, list[int]] = {"new": [], "kept": []}
        self.problems: list[str] = []

    def run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # who may not be first in line waits a little
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        kept = http.client.HTTPConnection(*self._address, timeout=_ASK_TIMEOUT_S)
        try:
            while not self._over.wait(_ASK_EVERY_S):
                self._ask("kept", kept)
                with contextlib.closing(
                    http.client.HTTPConnection(*self._address, timeout=_ASK_TIMEOUT_S)
                ) as new:
                    self._ask("new", new)
        except (OSError, http.client.HTTPException) as error:
            self.problems.append(f"{type(error).__name__}: {error}")
        finally:
            kept.close()

    def finish(self) -> None:
        """Stop, and wait for the end."""
        self._over.set()
        self.join()

    def _ask(self, name: str, connection: http.client.HTTPConnection) -> None:
        began = time.perf_counter_ns()
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        self.taken_ns[name].append(time.perf_counter_ns() - began)
        if answer.status != 200:
            self.problems.append(f"answered {answer.status}")


class Clients(threading.Thread):
    """Clients that ask for whole answers without pause, for so long."""

    def __init__(self, load: HttpLoad, seconds: float) -> None:
        super().__init__(name="clients")
        self._load = load
        self._seconds = seconds
        self.seen: HttpFigures | None = None
        self.problem: str | None = None

    def run(self) -> None:
        try:
            self.seen = self._load.run(self._seconds)
        except BenchError as error:
            self.problem = str(error)


class Busy:
    """How much of a core some processes use, and how much they want."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._began, self._before = time.monotonic_ns(), scheduled(pids)

    def shares(self) -> tuple[float, float]:
        """Used, and wanted, since the beginning."""
        took, now = time.monotonic_ns() - self._began, scheduled(self._pids)
        ran, waited = now[0] - self._before[0], now[1] - self._before[1]
        return ran / took, (ran + waited) / took


def scheduled(pids: Sequence[int]) -> tuple[int, int]:
    """Nanoseconds that the main threads of these processes ran, and waited for a core (schedstat)."""
    found = [Path(f"/proc/{pid}/schedstat").read_text().split() for pid in pids]
    return sum(int(ran) for ran, *_ in found), sum(int(waited) for _, waited, *_ in found)


def rows_of(
    load: str,
    taken_ns: dict[str, list[int]],
    shares: tuple[float, float],
    rate: float,
    lag_p99_ms: float,
) -> list[Row]:
    """The figures of one load. Raises BenchError when nothing was answered."""
    rows = []
    for name, times in taken_ns.items():
        seen = describe_latency(times)
        if seen is None:
            raise BenchError(f"/healthz was not answered once ({load}, {name})")
        rows.append(
            Row(
                load,
                name,
                len(times),
                seen["p50_ms"],
                seen["p99_ms"],
                seen["max_ms"],
                *shares,
                rate,
                lag_p99_ms,
            )
        )
    return rows


def _asked(url: str, seconds: float) -> dict[str, list[int]]:
    asker = Asker(url)
    asker.start()
    wait(seconds)
    asker.finish()
    if asker.problems:
        raise BenchError(f"/healthz: {asker.problems[0]}")
    return asker.taken_ns


def _measure(arguments: argparse.Namespace, directory: Path) -> Iterator[Row]:
    with (
        streaming(directory, rate=_TOKENS_PER_S, answer_bytes=500) as engines,
        start(directory, engines) as running,
    ):
        busy = Busy(running.pids())
        taken = _asked(running.url, arguments.seconds)
        yield from rows_of("quiet", taken, busy.shares(), 0.0, 0.0)
        yield from _loaded(arguments, directory, running)


def _listing(directory: Path, url: str, connections: int, seconds: float) -> Program:
    """Clients that list the models without pause."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s"]
    argv += ["-H", f"authorization: Bearer {CLIENT_KEY}", f"{url}/v1/models"]
    return Program(argv, core=HELPERS_CORE, log=directory / "listing.log", ready=lambda: True)


def _loaded(arguments: argparse.Namespace, directory: Path, running: Running) -> Iterator[Row]:
    body = chat_request(prompt_bytes=arguments.prompt_bytes)
    load = HttpLoad(directory, running.url, body=body, key=CLIENT_KEY, connections=arguments.clients)
    clients = Clients(load, arguments.seconds + 4.0)
    tokens = round((arguments.seconds + 12.0) * _TOKENS_PER_S)
    with SseLoad(directory, running.url, arguments.streams, tokens=tokens, ramp_s=1.0) as streams:
        streams.expect("open", limit_s=_OPEN_LIMIT_S)
        clients.start()
        with _listing(directory, running.url, arguments.listing, arguments.seconds + 30.0):
            wait(2.0)
            busy = Busy(running.pids())
            streams.tell("begin")
            taken = _asked(running.url, arguments.seconds)
            shares = busy.shares()
        streams.tell("end")
        window = streams.expect("window", limit_s=20)
        clients.join()
    if clients.seen is None:
        raise BenchError(clients.problem or "the clients saw nothing")
    if clients.seen.errors:
        raise BenchError(f"{clients.seen.errors} of {clients.seen.requests} requests went wrong")
    lag_ms = (window["lag"] or {}).get("p99_ms", 0.0)
    name = f"{arguments.streams} streams, {arguments.clients} clients"
    yield from rows_of(name, taken, shares, clients.seen.per_second, lag_ms)


def table(rows: Sequence[Row]) -> str:
    """The figures for people."""
    lines = [
        f"{'load':<26} {'conn.':<5} {'answers':>7} {'p50':>9} {'p99':>9} {'max':>9} {'CPU':>5} {'wants':>5} "
        f"{'req/s':>7} {'lag p99':>9}"
    ]
    lines += [
        f"{row.load:<26} {row.connection:<5} {row.answers:>7} {row.p50_ms:>6.1f} ms {row.p99_ms:>6.1f} ms "
        f"{row.max_ms:>6.1f} ms {row.share:>5.0%} {row.wanted:>5.0%} "
        f"{row.requests_per_s:>7.0f} {row.token_lag_p99_ms:>6.1f} ms"
        for row in rows
    ]
    return "\n".join(lines)


def problem_of(rows: Sequence[Row], limit_ms: float) -> str | None:
    """What is wrong with these figures, if anything is."""
    loaded = [row for row in rows if row.load != "quiet"]
    if any(row.wanted < SATURATED for row in loaded):
        return f"the proxy wanted {min(row.wanted for row in loaded):.0%} of its core: it was not saturated"
    slowest = max(row.max_ms for row in rows)
    return f"an answer took {slowest:.1f} ms, over {limit_ms:g}" if slowest > limit_ms else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.health",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--clients", type=int, default=64, help="that ask for whole answers")
    parser.add_argument("--listing", type=int, default=48, help="clients that list the models")
    parser.add_argument("--prompt-bytes", type=int, default=1000, help="length of their prompts")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--limit-ms", type=float, default=50.0, help="longest time that an answer may take")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    return parser


def main() -> int:
    """Returns 0 when every answer came in time while the process was saturated."""
    arguments = _parser().parse_args()
    raise_file_limit()
    with contextlib.suppress(OSError):  # where there is no such core, it goes where it may
        os.sched_setaffinity(0, {HELPERS_CORE})
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-health-", ignore_cleanup_errors=True) as name:
            rows = list(_measure(arguments, Path(name)))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    document = {"bench": "health", "rows": [asdict(row) for row in rows], "machine": describe_machine()}
    text = json.dumps(document)
    sys.stdout.write(f"{table(rows)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    if (problem := problem_of(rows, arguments.limit_ms)) is not None:
        say(f"error: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
