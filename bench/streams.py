"""Many streams at once through one process: are any broken, and what does each cost?

    python -m bench.streams --streams 5000
    python -m bench.streams --streams 10000 --rate 0.5 --contender nginx-ssh

Two instances over real OpenSSH servers, the proxy alone on core 1, everything else on core 0. All streams are opened at
once (or over `--ramp` seconds), stay open together while they are measured, and run to their end; `broken` counts those
that did not. Memory is what the proxy's resident memory grew by, divided by the streams. Prints one line of JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.console import say
from bench.contenders.all import CONTENDERS
from bench.engines import streaming
from bench.machine import describe_machine, raise_file_limit
from bench.measure import Meter, SseLoad
from bench.processes import BenchError, rss_bytes, wait

#: Time that all of them get to open: a storm of connections is answered in seconds, not in a timeout's time.
OPEN_LIMIT_S = 60.0
_WARM_STREAMS = 50


def measure_streams(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Open, hold, count, end. Raises BenchError."""
    streams, rate = arguments.streams, arguments.rate
    tokens = max(2, round((arguments.ramp + arguments.seconds + OPEN_LIMIT_S / 3) * rate))
    with ExitStack() as stack:
        engines = stack.enter_context(streaming(directory, rate=rate, answer_bytes=500))
        running = stack.enter_context(CONTENDERS[arguments.contender].start(directory, engines))
        with SseLoad(directory, running.url, _WARM_STREAMS, tokens=3, ramp_s=0.5) as load:
            load.expect("open", limit_s=OPEN_LIMIT_S)
            load.tell("finish")
            load.expect("finished", limit_s=OPEN_LIMIT_S)
        meter = Meter(running, engines)
        load = stack.enter_context(
            SseLoad(directory, running.url, streams, tokens=tokens, ramp_s=arguments.ramp)
        )
        began = time.monotonic()
        opened = load.expect("open", limit_s=OPEN_LIMIT_S + arguments.ramp)
        opened_s = time.monotonic() - began
        say(f"{opened['started']} of {streams} streams have their first token after {opened_s:.1f} s")
        meter.start()
        load.tell("begin")
        wait(arguments.seconds)
        meter.stop()
        load.tell("end")
        window = load.expect("window", limit_s=20)
        load.tell("finish")
        finished = load.expect("finished", limit_s=120)
        wait(1.0)
        after = rss_bytes(running.pids())
    return _figures(arguments, meter, opened, opened_s, window, finished, after)


def _figures(
    arguments: argparse.Namespace,
    meter: Meter,
    opened: dict[str, Any],
    opened_s: float,
    window: dict[str, Any],
    finished: dict[str, Any],
    after: int,
) -> dict[str, Any]:
    streams = arguments.streams
    return {
        "bench": "streams",
        "contender": arguments.contender,
        "streams": streams,
        "rate_per_stream": arguments.rate,
        "started": opened["started"],
        "all_open_s": round(opened_s, 2),
        "first_token": opened["first_token"],
        "complete": finished["complete"],
        "broken": sum(finished["broken"].values()) + finished["unfinished"],
        "broken_by": {**finished["broken"], **({"unfinished": n} if (n := finished["unfinished"]) else {})},
        "kb_per_stream": round((meter.rss - meter.rss_before) / 1000 / streams, 2),
        "kb_per_stream_kept_after": round((after - meter.rss_before) / 1000 / streams, 2),
        "tokens_per_s": round(window["tokens"] / window["seconds"], 1),
        "cpu_us_per_token": round(meter.cpu_us / max(1, window["tokens"]), 2),
        "lag": window["lag"],
        "shares": {name: round(value, 3) for name, value in meter.figures().items()},
        "machine": describe_machine(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument(
        "--rate", type=float, default=1.0, help="tokens a second of each (default: %(default)g)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="length of the measurement (default: 15)")
    parser.add_argument(
        "--ramp", type=float, default=0.001, help="seconds over which they open (default: at once)"
    )
    parser.add_argument(
        "--contender", default="vastproxy", choices=[n for n, c in CONTENDERS.items() if c.over_ssh]
    )
    return parser


def main() -> int:
    """Returns 0 when no stream broke."""
    arguments = _parser().parse_args()
    limit = raise_file_limit()
    if limit < arguments.streams + 500:
        say(
            f"warning: this machine allows {limit} files a process; {arguments.streams} streams may need more"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-streams-", ignore_cleanup_errors=True) as name:
            figures = measure_streams(arguments, Path(name))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["broken"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
