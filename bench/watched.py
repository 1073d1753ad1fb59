"""Do streams wait while people watch? Many streams through one process, alone and beside dashboards.

    python -m bench.watched
    python -m bench.watched --streams 400 --readers 8 --rounds 3

One `vastproxy serve` with two instances over SSH, alone on its core. The lag of a token is what the proxy's event loop
added to it, so what holds the loop is seen there. Each round takes in turn: `alone`; `top`, with the dashboard of the
terminal attached (a process of its own on the helpers' core, drawing once a second); `readers`, with as many readers of
`/vastproxy/v1/live` beside it as browsers would be, each of which also asks for the fleet, history, requests and
events once a second, more often than the page does. Prints medians over the rounds as a table, then one line of JSON.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.console import say
from bench.contenders.base import CLIENT_KEY, Running
from bench.contenders.vastproxy import start
from bench.engines import streaming
from bench.machine import describe_machine, raise_file_limit
from bench.measure import Meter, SseLoad
from bench.processes import HELPERS_CORE, BenchError, Program, wait

_TOKENS_PER_S = 30.0
_OPEN_LIMIT_S = 40.0
_SETTLE_S = 2.0
_PAGES = ("/vastproxy/v1/fleet", "/vastproxy/v1/history", "/vastproxy/v1/requests", "/vastproxy/v1/events")
#: A terminal for a program that has none.
_IN_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
SCENES = ("alone", "top", "readers")


class Reader(threading.Thread):
    """As a page does it: reads the live figures, and asks for the rest. `updates`: live figures that came."""

    def __init__(self, url: str) -> None:
        super().__init__(name="reader", daemon=True)
        address = urlsplit(url)
        self._address = (address.hostname or "127.0.0.1", address.port or 80)
        self._over = threading.Event()
        self.updates = 0
        self.problem: str | None = None

    def run(self) -> None:
        asking = threading.Thread(target=self._guarded, args=(self._ask,), name="asking", daemon=True)
        asking.start()
        self._guarded(self._read)
        asking.join()

    def finish(self) -> None:
        """Stop, and wait for the end."""
        self._over.set()
        self.join(10.0)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except (OSError, http.client.HTTPException) as error:
            if not self._over.is_set():
                self.problem = f"{type(error).__name__}: {error}"

    def _read(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            answer = self._get(connection, "/vastproxy/v1/live")
            while not self._over.is_set() and (line := answer.readline()):
                self.updates += line.startswith(b"data:")

    def _ask(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            while not self._over.wait(1.0):
                for page in _PAGES:
                    self._get(connection, page).read()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=10.0)

    def _get(self, connection: http.client.HTTPConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"authorization": f"Bearer {CLIENT_KEY}"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise http.client.HTTPException(f"{path} was answered {answer.status}")
        return answer


@contextlib.contextmanager
def readers(url: str, count: int) -> Iterator[None]:
    """So many, for as long as the block lasts. Raises BenchError when one of them saw nothing."""
    found = [Reader(url) for _ in range(count)]
    for reader in found:
        reader.start()
    try:
        yield
    finally:
        for reader in found:
            reader.finish()
    for reader in found:
        if reader.problem or not reader.updates:
            raise BenchError(reader.problem or "a reader saw no live figures")


def top(directory: Path, url: str) -> Program:
    """The dashboard of the terminal, ready when it has drawn something of the fleet."""
    log = directory / "top.log"
    log.unlink(missing_ok=True)
    argv = [sys.executable, "-c", _IN_A_TERMINAL, sys.executable, "-m", "vastproxy", "top", url]
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "TERM": "xterm-256color",
        "VASTPROXY_API_KEYS": CLIENT_KEY,
    }

    def has_drawn() -> bool:
        return log.exists() and b"healthy" in log.read_bytes()

    return Program(argv, core=HELPERS_CORE, log=log, env=env, ready=has_drawn, ready_limit_s=30.0)


def watching(scene: str, directory: Path, url: str, count: int) -> AbstractContextManager[object]:
    """Whoever watches in a scene."""
    if scene == "alone":
        return contextlib.nullcontext()
    if scene == "readers":
        return readers(url, count)
    return top(directory, url)


def measure(arguments: argparse.Namespace, directory: Path, running: Running, meter: Meter) -> dict[str, Any]:
    """One scene after the other, with the same streams. Raises BenchError."""
    tokens = round((arguments.seconds * 2 + _SETTLE_S + 20.0) * _TOKENS_PER_S)
    found: dict[str, Any] = {}
    for scene in SCENES:
        with (
            SseLoad(directory, running.url, arguments.streams, tokens=tokens, ramp_s=2.0) as streams,
            ExitStack() as stack,
        ):
            streams.expect("open", limit_s=_OPEN_LIMIT_S)
            stack.enter_context(watching(scene, directory, running.url, arguments.readers))
            wait(_SETTLE_S)
            meter.start()
            streams.tell("begin")
            wait(arguments.seconds)
            meter.stop()
            streams.tell("end")
            window = streams.expect("window", limit_s=20)
        if not window["lag"]:
            raise BenchError(f"no token came ({scene})")
        found[scene] = {
            **window["lag"],
            "tokens_per_s": window["tokens"] / window["seconds"],
            "cpu_share": meter.cpu_us / 1e6 / meter.seconds,
        }
    return found


def medians(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each figure of each scene."""
    return {
        scene: {name: statistics.median(one[scene][name] for one in rounds) for name in rounds[0][scene]}
        for scene in rounds[0]
    }


def table(found: dict[str, dict[str, float]]) -> str:
    """The figures for people."""
    lines = [f"{'scene':<8} {'lag p50':>9} {'p99':>9} {'max':>9} {'tokens/s':>9} {'CPU':>6}"]
    lines += [
        f"{scene:<8} {one['p50_ms']:>6.2f} ms {one['p99_ms']:>6.2f} ms {one['max_ms']:>6.1f} ms "
        f"{one['tokens_per_s']:>9.0f} {one['cpu_share']:>6.1%}"
        for scene, one in found.items()
    ]
    return "\n".join(lines)


def _rounds(arguments: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    with (
        streaming(directory, rate=_TOKENS_PER_S, answer_bytes=500) as engines,
        start(directory, engines) as running,
    ):
        meter = Meter(running, engines)
        for number in range(arguments.rounds):
            found = measure(arguments, directory, running, meter)
            say(f"round {number + 1}: {json.dumps(found)}")
            yield found


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.watched",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    arguments = parser.parse_args()
    raise_file_limit()
    with contextlib.suppress(OSError):  # where there is no such core, it goes where it may
        os.sched_setaffinity(0, {HELPERS_CORE})
    try:
        with tempfile.TemporaryDirectory(prefix="vastproxy-watched-", ignore_cleanup_errors=True) as name:
            found = medians(list(_rounds(arguments, Path(name))))
    except BenchError as error:
        say(f"error: {error}")
        return 1
    document = {"bench": "watched", "scenes": found, "machine": describe_machine()}
    sys.stdout.write(f"{table(found)}\n{json.dumps(document)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
