"""What became of the last requests: who could have served each, who was chosen and why, every attempt and its times.

A request writes its story while it runs, into its claim; it is put into words only when somebody asks. It holds no
prompt, no key and no query.
"""

from collections import deque
from collections.abc import Callable, Mapping
from heapq import merge
from itertools import chain, islice
from math import isfinite
from typing import Any, Final, Literal

from vastproxy.services.dispatch.claim import MAX_CHARS, NEVER, Claim, Lease
from vastproxy.services.dispatch.need import ANY_MODEL

State = Literal["running", "waiting", "done"]

#: Requests remembered.
KEPT = 1_000
#: Of those that were not let in, at most so many; the whole internet may ask.
KEPT_STRANGERS = 100
#: Candidates told of one attempt; more are counted only.
MAX_CANDIDATES = 32
#: Of requests that may be under way though they are not among the last ones, so many are listed before those that have
#: ended are let go of.
_SWEEP_AT = 64
_PORTS = 65_536
#: What a request may be doing.
STATES: Final[tuple[State, ...]] = ("running", "waiting", "done")


class Traces:
    """The last `kept` requests, found by their ids, which clients may choose; of several with one id it is the last.
    Those under way are found however many have come since. Strangers have a place apart: they push nobody else out."""

    __slots__ = ("_by_id", "_clock", "_next", "_older", "_ring", "_strangers", "_sweep_at", "_wall_clock")

    def __init__(
        self,
        kept: int = KEPT,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`clock`: the one that claims are written with; `wall_clock`: seconds since 1970."""
        self._ring: list[Claim | None] = [None] * kept
        self._next = 0
        self._by_id: dict[bytes, Claim] = {}
        self._older: list[Claim] = []
        """Those that were under way when they had to make room. At most twice as many as there were then, and some."""
        self._sweep_at = _SWEEP_AT
        self._strangers: deque[Claim] = deque(maxlen=min(kept, KEPT_STRANGERS))
        self._clock = clock
        self._wall_clock = wall_clock

    def __len__(self) -> int:
        return sum(claim is not None for claim in self._ring) + len(self._strangers)

    def keep(self, claim: Claim, *, is_stranger: bool = False) -> None:
        """A request has come. The oldest one is forgotten unless it is under way; with 0 kept, each when it ends.
        `is_stranger`: it is of somebody who is not let in."""
        if is_stranger:
            self._keep_apart(claim)
            return
        ring, place = self._ring, self._next
        if not ring:
            self._outlive(claim)
            return
        self._next = place + 1 if place + 1 < len(ring) else 0
        old = ring[place]
        if old is not None:
            if old.ended_at == NEVER:
                self._outlive(old)
            if self._by_id.get(old.request_id) is old:
                del self._by_id[old.request_id]
        ring[place] = self._by_id[claim.request_id] = claim

    def _keep_apart(self, claim: Claim) -> None:
        strangers = self._strangers
        if strangers.maxlen and len(strangers) == strangers.maxlen:
            oldest = strangers[0]
            if self._by_id.get(oldest.request_id) is oldest:
                del self._by_id[oldest.request_id]
        strangers.append(claim)
        if strangers:
            self._by_id.setdefault(claim.request_id, claim)  # whoever chooses a known id hides nothing by it

    def after(self, known: Claim | None, limit: int) -> list[Claim]:
        """Those that have come since `known`, the newest first, `limit` at most; as far as they are remembered.
        Strangers are not among them."""
        ring, found = self._ring, []
        for back in range(1, min(limit, len(ring)) + 1):
            claim = ring[self._next - back]
            if claim is None or claim is known:
                break
            found.append(claim)
        return found

    def _outlive(self, claim: Claim) -> None:
        if len(self._older) >= self._sweep_at:
            self._older = [each for each in self._older if each.ended_at == NEVER]
            self._sweep_at = max(2 * len(self._older), _SWEEP_AT)
        self._older.append(claim)

    def find(self, request_id: bytes) -> Claim | None:
        """The last one with this id, if it is remembered or under way."""
        found = self._by_id.get(request_id)
        if found is None:
            alike = (each for each in reversed(self._older) if each.request_id == request_id)
            found = next((each for each in alike if each.ended_at == NEVER), None)
        return found

    def under_way(self) -> list[Claim]:
        """Those that run or wait, the oldest first."""
        everyone = chain(self._older, self._ring[self._next :], self._ring[: self._next])
        return [claim for claim in everyone if claim is not None and claim.ended_at == NEVER]

    def latest(self, count: int) -> list[Claim]:
        """The last ones, the newest first."""
        turned = [*self._ring[self._next :], *self._ring[: self._next]]
        known = (claim for claim in reversed(turned) if claim is not None)
        everyone = merge(known, reversed(self._strangers), key=_began_at, reverse=True)
        return list(islice(everyone, max(count, 0)))

    def tell(self, claim: Claim) -> dict[str, Any]:
        """The story of a request, times in milliseconds since it began."""
        now, began = self._clock(), claim.began_at
        state = state_of(claim)
        over, waits = state == "done", state == "waiting"
        return {
            "id": claim.request_id.decode("latin-1"),
            "state": state,
            "began_unix": round(self._wall_clock() - (now - began), 3),
            "method": claim.method.decode("latin-1"),
            "path": claim.target.partition(b"?")[0][:MAX_CHARS].decode("latin-1"),
            "model": _model(claim.model),
            "stream": claim.stream,
            "key": claim.asker if isinstance(claim.asker, str) else None,
            "priority": claim.priority.name.lower(),
            "pin": _pin(claim),
            "status": claim.status or None,
            "queue_ms": _ms(claim.queued_s + (now - claim.asked_at if waits and claim.ticket else 0.0)),
            "first_byte_ms": _since(began, claim.first_byte_at),
            "total_ms": _since(began, claim.ended_at if over else now),
            "received_bytes": claim.received_bytes,
            "sent_bytes": claim.sent_bytes,
            "attempts": [_attempt(lease, began) for lease in claim.leases],
            "attempts_left_out": claim.left_out,
        }


def state_of(claim: Claim) -> State:
    """`waiting`: it has no place at an engine now, and may get one."""
    if claim.ended_at != NEVER:
        return "done"
    return "waiting" if claim.lease is None or claim.lease.outcome else "running"


def _began_at(claim: Claim) -> float:
    return claim.began_at


def _attempt(lease: Lease, began: float) -> dict[str, Any]:
    choice = lease.choice
    return {
        **_where(lease.engine.key),
        "path": lease.path or None,
        "reused": lease.reused,
        "reason": choice.why,
        "candidates": [
            {**_where(key), "score": score if isfinite(score) else None}
            for key, score in choice.scores[:MAX_CANDIDATES]
        ],
        "candidates_total": max(choice.among, len(choice.scores)),
        "started_ms": _since(began, lease.at),
        "connected_ms": _since(began, lease.connected_at),
        "first_byte_ms": _since(began, lease.first_byte_at),
        "ended_ms": _since(began, lease.ended_at),
        "outcome": lease.outcome or None,
        "error": lease.error or None,
    }


def _model(name: str | None) -> str | None:
    """JSON allows half a character, which no answer can hold."""
    if name is None or name == ANY_MODEL:
        return None
    return name[:MAX_CHARS].encode("utf-8", "replace").decode()


def _pin(claim: Claim) -> str | None:
    """What tied it to a place."""
    if claim.hint.pin is not None:
        return "header"
    return "session" if claim.hint.session is not None else None


def _where(key: int) -> Mapping[str, int]:
    return {"instance": key // _PORTS, "port": key % _PORTS}


def _since(began: float, at: float) -> float | None:
    return None if at == NEVER else _ms(at - began)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
