"""What a contender is: something that stands between the load and the engines."""

import contextlib
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.answers import CHAT, chat_request
from bench.engines import Engines
from bench.processes import Program

#: The key that clients show to every contender that knows keys.
CLIENT_KEY = "sk-bench-0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that serves."""

    url: str
    programs: Sequence[Program]
    """Whose CPU and memory count. None for the engines asked directly."""
    access_log: Path | None = None
    """Where it writes a line for each request."""

    def pids(self) -> list[int]:
        return [pid for program in self.programs for pid in program.pids()]


@dataclass(frozen=True, slots=True)
class Contender:
    """`start(directory, engines)` serves for as long as its block lasts; raises BenchError when it cannot."""

    name: str
    title: str
    over_ssh: bool
    start: Callable[[Path, Engines], AbstractContextManager[Running]]


def engine_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def direct(directory: Path, engines: Engines) -> AbstractContextManager[Running]:
    """The first engine itself: what load, engine and kernel take without anybody between them."""
    return contextlib.nullcontext(Running(engine_url(engines.ports[0]), ()))


def answers(url: str) -> bool:
    """Does a chat request come back well? Listening is not serving: routers look at their workers first."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {CLIENT_KEY}"}
    request = urllib.request.Request(url + CHAT, data=chat_request(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # an HTTPError is one, too
        return False
