"""What is known of machines, over all times they were rented: read from the ledger's file."""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from vastproxy.services.ledger.batch import TTFT_BOUNDS
from vastproxy.services.ledger.score import score
from vastproxy.services.ledger.seconds import HOUR_S
from vastproxy.services.ledger.store import counts_of


@dataclass(frozen=True, slots=True)
class Rental:
    """One instance on a machine, and when it was first and last seen there, in unix time."""

    identity: str
    first_seen_unix: float
    last_seen_unix: float

    def was_before(self, other: "Rental") -> bool:
        """Was it over when the other one began? Two that are rented at one time come neither before the other."""
        return self.last_seen_unix <= other.first_seen_unix


@dataclass(frozen=True, slots=True)
class Machine:
    """`rentals`: instances that were seen on it, in the order in which they were first. `hours`: that it ran, as seen.
    `ttft_p50_ms`: time to the first byte of half its streams; `tokens_per_s`: of one stream, in the mean. Both None
    where nothing was streamed."""

    machine_id: int
    gpu: str
    first_seen_unix: float
    last_seen_unix: float
    rentals: tuple[Rental, ...]
    hours: float
    requests: int
    errors: int
    tunnel_drops: int
    ttft_p50_ms: float | None
    tokens_per_s: float | None

    @property
    def score(self) -> float | None:
        """See `score.py`."""
        return score(self.hours, self.requests, self.errors, self.tunnel_drops)

    def knows(self, identity: str) -> bool:
        """Was the instance of this identity seen on it?"""
        return any(each.identity == identity for each in self.rentals)

    def rented_before(self, identity: str | None = None) -> bool:
        """Was a rental of it over when the instance of this identity was first seen? For one that was never seen, any
        rental counts; without an identity, one before any other."""
        here = [one for one in self.rentals if identity is None or one.identity == identity]
        if not here:
            return bool(self.rentals)
        return any(each.was_before(one) for one in here for each in self.rentals if each is not one)

    def to_json(self, identity: str | None = None) -> dict[str, Any]:
        """What may be shown of it. `identity`: of the instance on it that is talked of."""
        return {
            "machine_id": self.machine_id,
            "gpu": self.gpu,
            "rented_before": self.rented_before(identity),
            "rentals": len(self.rentals),
            "first_seen_unix": int(self.first_seen_unix),
            "last_seen_unix": int(self.last_seen_unix),
            "hours": round(self.hours, 2),
            "requests": self.requests,
            "errors": self.errors,
            "tunnel_drops": self.tunnel_drops,
            "ttft_p50_ms": self.ttft_p50_ms,
            "tokens_per_s": self.tokens_per_s,
            "score": self.score,
        }


def machines(connection: sqlite3.Connection, ids: Collection[int] | None = None) -> tuple[Machine, ...]:
    """All of them, or these; those seen last come first. Raises sqlite3.Error."""
    which, given = "", tuple[int, ...]()
    if ids is not None:
        given = tuple(ids)
        which = f"WHERE {{}} IN ({','.join('?' * len(given))})"
    rentals: dict[int, list[Rental]] = {}
    question = f"SELECT machine, identity, first_seen, last_seen FROM rental {which.format('machine')}"
    for machine_id, *seen in connection.execute(f"{question} ORDER BY first_seen", given):
        rentals.setdefault(machine_id, []).append(Rental(*seen))
    rows = connection.execute(
        "SELECT id, gpu, first_seen, last_seen, up_seconds, requests, errors, drops, tokens, seconds, ttft "
        f"FROM machine {which.format('id')} ORDER BY last_seen DESC, id",
        given,
    )
    return tuple(_machine(row, rentals.get(row[0], ())) for row in rows)


def _machine(row: Any, rentals: Iterable[Rental]) -> Machine:
    id, gpu, first_seen, last_seen, up_seconds, requests, errors, drops, tokens, seconds, ttft = row
    median_s = median(counts_of(ttft, len(TTFT_BOUNDS) + 1))
    return Machine(
        machine_id=id,
        gpu=gpu,
        first_seen_unix=first_seen,
        last_seen_unix=last_seen,
        rentals=tuple(rentals),
        hours=up_seconds / HOUR_S,
        requests=requests,
        errors=errors,
        tunnel_drops=drops,
        ttft_p50_ms=None if median_s is None else round(median_s * 1000, 1),
        tokens_per_s=round(tokens / seconds, 1) if seconds > 0 else None,
    )


def median(counts: list[int]) -> float | None:
    """Of times counted by `TTFT_BOUNDS`, in seconds: where it lies in its bucket is taken to be even. None of none;
    what lies beyond the last bound is that."""
    whole = sum(counts)
    if whole <= 0:
        return None
    left = whole / 2
    lower = 0.0
    for upper, count in zip(TTFT_BOUNDS, counts, strict=False):
        if count and count >= left:
            return lower + (upper - lower) * left / count
        left -= count
        lower = upper
    return TTFT_BOUNDS[-1]
