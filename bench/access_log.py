"""What one line of the access log costs: `python bench/access_log.py [--lines N] [--rounds N]`.

Each way writes to a pipe that another process empties. "loop" is the CPU time of the thread that logs, which is the
event loop's in the proxy; "process" has the writer thread in it too. The best round counts: the others were disturbed.
Lines come in bursts with a pause between them, as requests do: a loop that never rests would share the interpreter's
lock with the writer all the time, which no proxy does that has a moment left to answer anybody.
"""

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Literal, TextIO, cast

from vastproxy.api.access import AccessLog
from vastproxy.cli.logs import TextFormatter, set_up_logging
from vastproxy.settings.logs import LoggingSettings

Log = Callable[[bytes], None]

#: Lines between two pauses, and the pause: 10,000 requests a second.
BURST = 50
PAUSE_S = 0.005


@contextlib.contextmanager
def pipe() -> Iterator[TextIO]:
    """A pipe to a process that reads all of it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        yield cast(TextIO, reader.stdin)


@contextlib.contextmanager
def nothing() -> Iterator[Log]:
    """What measuring costs."""
    yield lambda request_id: None


@contextlib.contextmanager
def standard_logging() -> Iterator[Log]:
    """A record, a formatter and a write for each line, by the standard library."""
    with pipe() as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(TextFormatter())
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        logger = logging.getLogger("vastproxy.access")

        def log(request_id: bytes) -> None:
            logger.info(
                "%s %s %s → instance=%s status=%d bytes=%d attempts=%d took=%.0fms",
                request_id.decode(),
                "POST",
                b"/v1/chat/completions".partition(b"?")[0].decode("latin-1"),
                12345678,
                200,
                5120,
                1,
                0.0123 * 1000,
            )

        yield log
        root.handlers.clear()


@contextlib.contextmanager
def ours(form: Literal["text", "json"], *, enabled: bool = True) -> Iterator[Log]:
    """`AccessLog` as `vastproxy serve` uses it."""
    with pipe() as stream, set_up_logging(LoggingSettings(format=form), stream=stream) as logs:
        access = AccessLog(enabled=enabled, form=logs.form, sink=logs.access_sink)

        def log(request_id: bytes) -> None:
            # fmt: off
            access.log(
                request_id, b"POST", b"/v1/chat/completions", "web", "Qwen/Qwen3-8B", 12345678, "direct", 200,
                None, False, 5120, 873, 1, 0.0, 0.0051, 0.0123, 873, 250, "203.0.113.77",
            )
            # fmt: on

        yield log
    logging.getLogger().handlers.clear()


def measure(log: Log, ids: list[bytes], *, burst: int, pause_s: float) -> tuple[float, float]:
    """CPU nanoseconds per line, of this thread and of the process."""
    mine = everything = 0
    for start in range(0, len(ids), burst):
        part = ids[start : start + burst]
        mine -= time.thread_time_ns()
        everything -= time.process_time_ns()
        for request_id in part:
            log(request_id)
        mine += time.thread_time_ns()
        if pause_s:
            time.sleep(pause_s)  # noqa: TID251  # the pause is what is measured around
        everything += time.process_time_ns()
    return mine / len(ids), everything / len(ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    ids = [uuid.uuid4().hex.encode() for _ in range(wanted.lines)]
    ways: dict[str, Callable[[], contextlib.AbstractContextManager[Log]]] = {
        "an empty call": nothing,
        "standard logging, text": standard_logging,
        "access log, text": lambda: ours("text"),
        "access log, JSON": lambda: ours("json"),
        "access log, off": lambda: ours("text", enabled=False),
    }
    sys.stdout.write(f"{os.uname().machine}, Python {sys.version.split()[0]}; CPU ns per line\n")
    sys.stdout.write(f"{'':26}{'loop':>8}{'process':>9}   {'without pauses: loop':>20}\n")
    for name, way in ways.items():
        paced, busy = [], []
        for _ in range(wanted.rounds):
            with way() as log:
                paced.append(measure(log, ids, burst=BURST, pause_s=PAUSE_S))
                busy.append(measure(log, ids, burst=1000, pause_s=0.0)[0])
        loop, process = min(figure[0] for figure in paced), min(figure[1] for figure in paced)
        sys.stdout.write(f"{name:26}{loop:8.0f}{process:9.0f}   {min(busy):20.0f}\n")


if __name__ == "__main__":
    main()
