"""What became of the last requests: who could have served each, who was chosen and why, every attempt and its times.

A trace is written while its request runs, some slots and one short list per attempt, and put into words only when
somebody asks. It holds no prompt, no key and no query. Measured: less than 2 µs for a request with one attempt and 8
candidates, 27 µs to put it into words.

Times are seconds of one clock that only goes forward (`time.perf_counter`); -1.0 stands for what has not happened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

#: Requests remembered. With 8 candidates each this takes 2 MB.
KEPT = 1_000
#: Attempts, candidates and characters kept for one request; more candidates are counted only.
MAX_ATTEMPTS = 16
MAX_CANDIDATES = 32
MAX_CHARS = 300
_PORTS = 65_536
NEVER = -1.0


class Attempt:
    """One attempt to have a request answered. Whoever makes it sets what happens to it."""

    __slots__ = (
        "candidates",
        "connected_at",
        "ended_at",
        "error",
        "first_byte_at",
        "key",
        "outcome",
        "path",
        "reason",
        "reused",
        "started_at",
        "total",
    )

    def __init__(self, key: int, reason: str, candidates: Sequence[tuple[int, float]], at: float) -> None:
        self.key = key
        """Instance id and engine port, as everywhere in routing."""
        self.reason = reason
        self.candidates = candidates if len(candidates) <= MAX_CANDIDATES else candidates[:MAX_CANDIDATES]
        self.total = len(candidates)
        self.started_at = at
        self.connected_at = NEVER
        self.first_byte_at = NEVER
        self.ended_at = NEVER
        self.path = ""
        """`direct` or `relay`."""
        self.reused = False
        """Had the connection served before?"""
        self.outcome = ""
        """One word: `answered`, `failed`, `left` (the client), `refused`, …; "" while it runs."""
        self.error = ""

    @property
    def instance_id(self) -> int:
        return self.key // _PORTS

    def end(self, outcome: str, at: float, error: str = "") -> None:
        """It is over. `error`: one line for a person."""
        self.outcome, self.ended_at, self.error = outcome, at, error[:MAX_CHARS]


class Trace:
    """One request. Whoever serves it sets what happens to it."""

    __slots__ = (
        "attempts",
        "began_at",
        "began_unix",
        "ended_at",
        "first_byte_at",
        "key_name",
        "left_out",
        "method",
        "model",
        "path",
        "pin",
        "priority",
        "queued_s",
        "received_bytes",
        "request_id",
        "sent_bytes",
        "status",
        "stream",
    )

    def __init__(
        self, request_id: bytes, method: bytes, path: bytes, began_at: float, began_unix: float
    ) -> None:
        self.request_id = request_id
        self.method = method
        self.path = path.partition(b"?")[0][:MAX_CHARS]
        self.began_at = began_at
        self.began_unix = began_unix
        self.model: str | None = None
        self.stream: bool | None = None
        self.key_name = ""
        """Which inbound key it came with: its name or number, never the key."""
        self.priority = ""
        self.pin = ""
        """What tied it to an instance or a home: `header`, `session`, …"""
        self.queued_s = 0.0
        """How long it waited for a place."""
        self.attempts: list[Attempt] = []
        self.left_out = 0
        """Attempts in the middle that are not kept."""
        self.first_byte_at = NEVER
        self.ended_at = NEVER
        self.status = 0
        """What the client was answered; 499: it left. 0 while it runs."""
        self.received_bytes = 0
        self.sent_bytes = 0

    def asked(self, model: str | None, stream: bool | None) -> None:
        """What it asks for, once that is known."""
        self.model = None if model is None else model[:MAX_CHARS]
        self.stream = stream

    def attempt(
        self, key: int, at: float, reason: str = "", candidates: Sequence[tuple[int, float]] = ()
    ) -> Attempt:
        """One more begins. `candidates`: key and score of each that could have been chosen, as the policy saw them; not
        copied, so not to be changed. `reason`: why this one, in words that a person understands."""
        begun = Attempt(key, reason, candidates, at)
        if len(self.attempts) >= MAX_ATTEMPTS:
            del self.attempts[MAX_ATTEMPTS // 2]
            self.left_out += 1
        self.attempts.append(begun)
        return begun

    def end(self, status: int, at: float, *, received_bytes: int = 0, sent_bytes: int = 0) -> None:
        """The request is over."""
        self.status, self.ended_at = status, at
        self.received_bytes, self.sent_bytes = received_bytes, sent_bytes

    def to_json(self, now: float) -> dict[str, Any]:
        """All of it, times in milliseconds since the request began. `now`: of the same clock, for one that runs."""
        over = self.ended_at != NEVER
        return {
            "id": self.request_id.decode("latin-1"),
            "state": "done" if over else "running",
            "began_unix": round(self.began_unix, 3),
            "method": self.method.decode("latin-1"),
            "path": self.path.decode("latin-1"),
            "model": self.model,
            "stream": self.stream,
            "key": self.key_name or None,
            "priority": self.priority or None,
            "pin": self.pin or None,
            "status": self.status or None,
            "queue_ms": _ms(self.queued_s),
            "first_byte_ms": self._since(self.first_byte_at),
            "total_ms": self._since(self.ended_at if over else now),
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "attempts": [self._attempt_json(attempt) for attempt in self.attempts],
            "attempts_left_out": self.left_out,
        }

    def _attempt_json(self, attempt: Attempt) -> dict[str, Any]:
        return {
            **_where(attempt.key),
            "path": attempt.path or None,
            "reused": attempt.reused,
            "reason": attempt.reason[:MAX_CHARS] or None,
            "candidates": [{**_where(key), "score": score} for key, score in attempt.candidates],
            "candidates_total": attempt.total,
            "started_ms": self._since(attempt.started_at),
            "connected_ms": self._since(attempt.connected_at),
            "first_byte_ms": self._since(attempt.first_byte_at),
            "ended_ms": self._since(attempt.ended_at),
            "outcome": attempt.outcome or None,
            "error": attempt.error or None,
        }

    def _since(self, at: float) -> float | None:
        return None if at == NEVER else _ms(at - self.began_at)


class Traces:
    """The last `kept` requests, found by their ids, which clients may choose; of several with one id it is the last."""

    __slots__ = ("_by_id", "_next", "_ring")

    def __init__(self, kept: int = KEPT) -> None:
        self._ring: list[Trace | None] = [None] * kept
        self._next = 0
        self._by_id: dict[bytes, Trace] = {}

    def __len__(self) -> int:
        return sum(trace is not None for trace in self._ring)

    def begin(self, request_id: bytes, method: bytes, path: bytes, at: float, unix: float) -> Trace:
        """A request has come. `path` is kept without its query. `unix`: what the clock on the wall says. The oldest
        one is forgotten, even if it still runs; with 0 kept nothing is ever found."""
        trace = Trace(request_id, method, path, at, unix)
        ring = self._ring
        if not ring:
            return trace
        place = self._next
        self._next = place + 1 if place + 1 < len(ring) else 0
        old = ring[place]
        if old is not None and self._by_id.get(old.request_id) is old:
            del self._by_id[old.request_id]
        ring[place] = self._by_id[request_id] = trace
        return trace

    def find(self, request_id: bytes) -> Trace | None:
        """The last one with this id, if it is remembered."""
        return self._by_id.get(request_id)

    def latest(self, count: int) -> list[Trace]:
        """The last ones, the newest first."""
        turned = [*self._ring[self._next :], *self._ring[: self._next]]
        return [trace for trace in reversed(turned) if trace is not None][: max(count, 0)]


def _where(key: int) -> Mapping[str, int]:
    return {"instance": key // _PORTS, "port": key % _PORTS}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
