"""When do several SSH connections over one path pay? Streams and downloads over a far line, with one and with several.

    python -m bench.lanes
    python -m bench.lanes --lines far --loads mixed --most 1,4

One `vastproxy serve`, one instance with a real sshd. The line before it is `far` (a delay each way, and a limit on
what one TCP connection carries) or `near` (loopback as it is). The loads: `tokens`, 40 streams at 30 tokens a second;
`many`, 200 of them; `mixed`, 40 beside 4 clients that download answers of 20 MB without pause. Each is given time in
which the proxy may open more connections, and is measured then. `changes` are the seconds after the beginning of the
load at which connections came and went. Before the next load the run waits until one connection is left, with `--back`
after the last one too.

The proxy is on core 1, everything else on core 0. Prints a table, then one line of JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.account import run_account
from bench.console import say
from bench.contenders.base import Running
from bench.contenders.vastproxy import serving
from bench.engines import Engines, streaming
from bench.lanes_line import line_program
from bench.lanes_load import Downloads, Watch, changes
from bench.machine import describe_machine, raise_file_limit
from bench.measure import Meter, SseLoad
from bench.processes import BenchError, free_port, wait
from bench.sshd import make_key, run_sshd

_ACCOUNT_KEY = "0123456789abcdef" * 4
_TOKENS_PER_S = 30.0
_LINES = ("far", "near")
_OPEN_LIMIT_S = 40.0
#: Longest wait for connections to be given up again: the proxy keeps them for a minute after the last queue.
_RETURN_LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class LoadKind:
    """What is asked: streams, and clients that download beside them. `settle_s`: until new ones are in use."""

    streams: int
    downloads: int
    settle_s: float


LOADS: Mapping[str, LoadKind] = {
    "tokens": LoadKind(40, 0, 11.0),
    "many": LoadKind(200, 0, 16.0),
    "mixed": LoadKind(40, 4, 32.0),
}
#: Where one connection is allowed there is nothing to wait for.
_SETTLE_ALONE_S = 3.0


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one load on one line."""

    line: str
    load: str
    most: int
    connections: int
    """At the end of the measurement."""
    lag_p50_ms: float
    lag_p99_ms: float
    tokens_per_s: float
    download_mb_s: float
    first_token_p99_ms: float
    cpu_share: float
    """Of one core, the proxy alone."""
    broken: int
    changes: list[tuple[float, int]]
    back_after_s: float | None
    """From the end of the load until one connection was left; None: not in time, or not waited for."""


@contextmanager
def _stage(
    arguments: argparse.Namespace, directory: Path, line: str, most: int
) -> Iterator[tuple[Running, Engines, int]]:
    """A proxy over one machine; also the port at which its connections can be counted."""
    with ExitStack() as stack:
        engines = stack.enter_context(
            streaming(directory, rate=_TOKENS_PER_S, answer_bytes=round(arguments.answer_mb * 1e6))
        )
        key = make_key(directory / "id_ed25519")
        port = stack.enter_context(run_sshd(directory / "instance", key)).port
        if line == "far":
            target, port = port, free_port()
            delay_s, rate = arguments.delay, arguments.rate * 1e6
            stack.enter_context(line_program(directory, port, target, delay_s=delay_s, rate=rate))
        instance = {"ssh_port": port, "engine_port": engines.ports[0]}
        api = stack.enter_context(run_account(directory, _ACCOUNT_KEY, [instance]))
        environment = {
            "SSH_KEY_PATH": str(key),
            "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state"),
            "VASTPROXY_TUNNELS__MAX_CONNECTIONS": str(most),
        }
        argv = [sys.executable, "-m", "vastproxy", "serve"]
        yield stack.enter_context(serving(argv, directory, api, 1, environment)), engines, port


def _measure(
    arguments: argparse.Namespace, directory: Path, line: str, most: int, names: Sequence[str]
) -> Iterator[Row]:
    """One proxy, the loads one after the other. Raises BenchError."""
    with _stage(arguments, directory, line, most) as (running, engines, port):
        for name in names:
            kind, is_last = LOADS[name], name == names[-1]
            settle_s = kind.settle_s * arguments.patience if most > 1 else _SETTLE_ALONE_S
            with Watch(port) as watch:
                found = _one_load(arguments, directory, running, engines, kind, watch, settle_s)
                back_after_s = None if is_last and not arguments.back else _wait_for_one(watch)
            yield Row(line, name, most, **found, back_after_s=back_after_s)


def _one_load(
    arguments: argparse.Namespace,
    directory: Path,
    running: Running,
    engines: Engines,
    kind: LoadKind,
    watch: Watch,
    settle_s: float,
) -> dict[str, Any]:
    tokens = round((settle_s + arguments.seconds + 3.0) * _TOKENS_PER_S)
    began = time.monotonic()
    meter = Meter(running, engines)
    with SseLoad(directory, running.url, kind.streams, tokens=tokens, ramp_s=1.0) as load:
        opened = load.expect("open", limit_s=_OPEN_LIMIT_S)
        downloads = Downloads(running.url, kind.downloads)
        with downloads if kind.downloads else nullcontext():
            wait(settle_s)
            received = downloads.received
            meter.start()
            load.tell("begin")
            wait(arguments.seconds)
            meter.stop()
            received = downloads.received - received
            load.tell("end")
            window = load.expect("window", limit_s=20)
            connections = watch.now
            broken = len(downloads.problems)
        load.tell("finish")
        finished = load.expect("finished", limit_s=load.finish_limit_s + 20)
    return {
        "connections": connections,
        "lag_p50_ms": window["lag"]["p50_ms"],
        "lag_p99_ms": window["lag"]["p99_ms"],
        "tokens_per_s": round(window["tokens"] / window["seconds"], 1),
        "download_mb_s": round(received / meter.seconds / 1e6, 2),
        "first_token_p99_ms": (opened["first_token"] or {}).get("p99_ms", 0.0),
        "cpu_share": round(meter.cpu_us / meter.seconds / 1e6, 3),
        "broken": broken + sum(finished["broken"].values()) + finished["unfinished"],
        "changes": changes(watch.seen, began),
    }


def _wait_for_one(watch: Watch) -> float | None:
    ended = time.monotonic()
    while watch.now > 1:
        if time.monotonic() > ended + _RETURN_LIMIT_S:
            return None
        wait(0.1)
    return round(time.monotonic() - ended, 1)


def table(rows: Sequence[Row]) -> str:
    """The figures for people."""
    lines = [
        f"{'line':<5} {'load':<7} {'most':>4} {'used':>4} {'lag p50':>9} {'lag p99':>9} {'tokens/s':>9} {'MB/s':>7} "
        f"{'CPU':>6} {'broken':>6} {'back':>7}  changes"
    ]
    for row in rows:
        back = "-" if row.back_after_s is None else f"{row.back_after_s:.1f} s"
        story = " ".join(f"{count}@{at:g}s" for at, count in row.changes)
        lines.append(
            f"{row.line:<5} {row.load:<7} {row.most:>4} {row.connections:>4} {row.lag_p50_ms:>6.1f} ms "
            f"{row.lag_p99_ms:>6.1f} ms {row.tokens_per_s:>9.0f} {row.download_mb_s:>7.1f} {row.cpu_share:>6.1%} "
            f"{row.broken:>6} {back:>7}  {story}".rstrip()
        )
    return "\n".join(lines)


def _some_of(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words or set(words) - set(known):
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}, not {text!r}")
        return words

    return parse


def _counts(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= 16 for word in words):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to 16, not {text!r}")
    return [int(word) for word in words]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lanes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lines", type=_some_of(_LINES), default=list(_LINES), help=",".join(_LINES))
    parser.add_argument("--loads", type=_some_of(tuple(LOADS)), default=list(LOADS), help=",".join(LOADS))
    parser.add_argument("--most", type=_counts, default=[1, 2, 4], help="max_connections, in turn")
    parser.add_argument("--delay", type=float, default=0.04, help="seconds each way on the far line")
    parser.add_argument("--rate", type=float, default=4.0, help="MB/s of each connection on the far line")
    parser.add_argument("--answer-mb", type=float, default=20.0, help="length of a download")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a measurement")
    parser.add_argument("--patience", type=float, default=1.0, help="times the usual wait before it")
    parser.add_argument("--back", action="store_true", help="after the last load, wait until one is left")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    return parser


def _all(arguments: argparse.Namespace) -> Iterator[Row]:
    for line in arguments.lines:
        for most in arguments.most:
            with tempfile.TemporaryDirectory(prefix="vastproxy-lanes-", ignore_cleanup_errors=True) as name:
                yield from _measure(arguments, Path(name), line, most, arguments.loads)


def main() -> int:
    """Returns 0 when nothing broke."""
    arguments = _parser().parse_args()
    raise_file_limit()
    rows: list[Row] = []
    try:
        for row in _all(arguments):
            say(table([row]).splitlines()[1])
            rows.append(row)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    document = {"bench": "lanes", "rows": [asdict(row) for row in rows], "machine": describe_machine()}
    text = json.dumps(document)
    sys.stdout.write(f"{table(rows)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    return 0 if not any(row.broken for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
