"""What happens at a proxy, asked for in two threads: the live stream, and every few seconds the requests in flight.

When the proxy goes away, that is told, and it is asked again until it answers.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import requests

from vastproxy.cli.asking import Asker, NoProxyThere, asking
from vastproxy.cli.top.sse import events
from vastproxy.cli.top.values import part, text
from vastproxy.errors import VastproxyError

#: The proxy says something at least every `every_s`; after this much more it is gone.
SILENCE_S = 10.0
#: Between two attempts to reach a proxy that has gone: doubled each time.
FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 5.0
#: Between two looks at the requests in flight, at least.
REQUESTS_EVERY_S = 2.0
#: Requests in flight that are asked for.
MOST_REQUESTS = 100
FLEET = "/vastproxy/v1/fleet"

Kind = Literal["connected", "lost", "fleet", "happened", "left_out", "requests", "logged"]


@dataclass(frozen=True, slots=True)
class News:
    """`content` is what the proxy told: an object, with `left_out` a number, with `requests` a list, with
    `lost` why, with `logged` lines of the log."""

    kind: Kind
    content: Any = None


class NotTold(VastproxyError):
    """The proxy is there and does not tell us."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where it is asked, and how. `is_own`: see `asking`."""

    base: str
    key: str | None = None
    every_s: float = 1.0
    is_own: bool = False

    def refusal(self, answer: requests.Response, what: str) -> NotTold:
        """Why it does not answer with what was asked for."""
        status = answer.status_code
        if status in (401, 403):
            return NotTold(
                f"{self.base} tells this only to holders of a key with the right 'admin': "
                "give it with --key or VASTPROXY_API_KEY"
            )
        if status == 404:
            return NotTold(f"{self.base} has no {what}: it is not vastproxy, or an older one")
        if status == 503:
            return NotTold(f"{self.base} tells nothing now: {_why(answer)}")
        return NotTold(f"{self.base} does not tell its {what} (HTTP {status})")

    def overview(self) -> dict[str, Any]:
        """How the fleet is now, asked for once. Raises NoProxyThere or NotTold."""
        with asking(self.base, key=self.key, is_own=self.is_own) as proxy:
            answer = proxy.get(FLEET)
            if answer.status_code != 200:
                raise self.refusal(answer, "overview")
            return proxy.object(answer)


class Feed:
    """Tells `tell` what there is to know, from threads of its own, between `start` and `stop`."""

    def __init__(
        self,
        source: Source,
        tell: Callable[[News], object],
        *,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """`wait` sleeps until the event or for so many seconds."""
        self._source = source
        self._tell = tell
        self._wait = wait
        self._over = threading.Event()
        self._there = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="top-live", daemon=True),
            threading.Thread(target=self._look, name="top-requests", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, *, limit_s: float = 0.0) -> None:
        """Tell nothing more. A thread that waits for the proxy ends with the next word of it, or with the process;
        `limit_s`: how long to wait for that."""
        self._over.set()
        self._there.set()
        for thread in self._threads:
            if limit_s and thread.is_alive():
                thread.join(limit_s)

    def _say(self, kind: Kind, content: Any = None) -> None:
        if not self._over.is_set():
            self._tell(News(kind, content))

    def _follow(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._over.is_set():
            try:
                with self._asking(self._source.every_s * 2 + SILENCE_S) as proxy:
                    self._live(proxy)
                why = f"{self._source.base} has ended the connection"
            except VastproxyError as error:
                why = str(error)
            except (requests.RequestException, OSError, ValueError, AttributeError):
                # AttributeError: urllib3's, when a connection is closed under it
                why = f"the connection to {self._source.base} broke off"
            if self._there.is_set():
                pause = FIRST_PAUSE_S
            self._there.clear()
            self._say("lost", why)
            self._wait(self._over, pause)
            pause = min(pause * 2, LAST_PAUSE_S)
        self._there.set()

    def _live(self, proxy: Asker) -> None:
        path = f"/vastproxy/v1/live?every_s={self._source.every_s:g}"
        with proxy.stream(path, accept="text/event-stream") as answer:
            if answer.status_code != 200:
                raise self._source.refusal(answer, "live feed")
            for event, data in events(answer.iter_lines(chunk_size=None)):
                if self._over.is_set():
                    return
                if not self._there.is_set():
                    self._there.set()
                    self._say("connected")
                self._heard(event, data)

    def _heard(self, event: str, data: str) -> None:
        if event not in ("fleet", "happened", "lost"):
            return
        content = json.loads(data)
        if event == "lost":
            count = content.get("events", 1) if isinstance(content, dict) else content
            self._say("left_out", count if isinstance(count, int) else 1)
        elif isinstance(content, dict):
            self._say("fleet" if event == "fleet" else "happened", content)

    def _look(self) -> None:
        every_s = max(self._source.every_s, REQUESTS_EVERY_S)
        while not self._over.is_set():
            self._there.wait()
            try:
                with self._asking(SILENCE_S) as proxy:
                    while not self._over.is_set() and self._there.is_set():
                        self._say("requests", self._in_flight(proxy))
                        self._wait(self._over, every_s)
            except (VastproxyError, requests.RequestException):
                self._wait(self._over, every_s)  # that it is gone, the other one tells

    def _in_flight(self, proxy: Asker) -> list[dict[str, Any]]:
        """Those that run or wait, the newest first."""
        found: list[dict[str, Any]] = []
        for state in ("waiting", "running"):
            answer = proxy.get(f"/vastproxy/v1/requests?state={state}&limit={MOST_REQUESTS}")
            if answer.status_code != 200:
                raise NoProxyThere("requests are not told")
            told = proxy.object(answer).get("requests")
            rows = told if isinstance(told, list) else []
            found += [row for row in rows if isinstance(row, dict) and row.get("state") == state]
        return sorted(found, key=_began, reverse=True)

    def _asking(self, read_timeout_s: float) -> Any:
        source = self._source
        return asking(source.base, key=source.key, read_timeout_s=read_timeout_s, is_own=source.is_own)


def _began(row: dict[str, Any]) -> float:
    began = row.get("began_unix")
    return began if isinstance(began, (int, float)) else 0.0


def _why(answer: requests.Response) -> str:
    try:
        return text(part(answer.json(), "error"), "message") or "it is busy"
    except (ValueError, AttributeError, requests.RequestException):
        return "it is busy"
