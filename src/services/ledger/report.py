"""What instances have cost and done since some time: read from the ledger's file, put together, told as JSON."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from vastproxy.services.ledger.seconds import HOUR_S, hour_of
from vastproxy.services.ledger.share import IDLE, UNFINISHED, WorkedHour, shares

By = Literal["instance", "model", "key", "hour"]
#: What costs can be told by.
WAYS: Final = get_args(By)
#: Where no model or key was named.
NO_NAME: Final = {"model": "(no model)", "key": "(no key)"}

#: The first and the last hour that are told.
Hours = tuple[int, int]

_THEN: Final = "hour BETWEEN ?1 AND ?2"
_RENT: Final = "sum(dollars), sum(min(busy_dollars, dollars)), sum(seconds), sum(busy_seconds)"
_SUMS: Final = (
    "sum(requests), sum(errors), sum(tokens_in), sum(tokens_out), sum(estimated_tokens), "
    "sum(bandwidth_dollars)"
)


@dataclass(slots=True)
class Figures:
    """One row. `dollars`: rent and bandwidth; `idle_dollars`: the part of the rent in which there was nothing to do.
    `hours`, `busy_hours`: rented, and with something to do; None where they cannot be told apart."""

    dollars: float = 0.0
    idle_dollars: float = 0.0
    bandwidth_dollars: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated_tokens: int = 0
    requests: int = 0
    errors: int = 0
    hours: float | None = None
    busy_hours: float | None = None
    machine_id: int | None = None

    def to_json(self, name: str | None = None) -> dict[str, Any]:
        """Its figures by name, dollars to a millionth."""
        tokens = self.tokens_in + self.tokens_out
        shown: dict[str, Any] = {} if name is None else {"name": name}
        for field in ("dollars", "idle_dollars", "bandwidth_dollars"):
            shown[field] = round(getattr(self, field), 6)
        for field in ("tokens_in", "tokens_out", "estimated_tokens", "requests", "errors"):
            shown[field] = getattr(self, field)
        for field in ("hours", "busy_hours"):
            value = getattr(self, field)
            shown[field] = None if value is None else round(value, 3)
        shown["dollars_per_million_tokens"] = round(self.dollars * 1e6 / tokens, 4) if tokens else None
        if self.machine_id is not None:
            shown["machine_id"] = self.machine_id
        return shown


@dataclass(frozen=True, slots=True)
class Report:
    """`rows`: by name, the dearest first; hours in their order. They add up to `total`."""

    by: By
    since_unix: int
    until_unix: float
    total: Figures
    rows: tuple[tuple[str, Figures], ...]

    def to_json(self) -> dict[str, Any]:
        """As `/vastproxy/v1/cost` answers."""
        return {
            "by": self.by,
            "since_unix": self.since_unix,
            "until_unix": int(self.until_unix),
            "total": self.total.to_json(),
            "rows": [figures.to_json(name) for name, figures in self.rows],
        }


def cost(connection: sqlite3.Connection, by: By, since: float, now: float) -> Report:
    """What the ledger knows from the hour in which `since` (unix time) lies to that of `now`: a clock that was ahead
    may have left hours that are still to come. Raises sqlite3.Error."""
    hours = begin, _ = hour_of(since), hour_of(now)
    connection.execute("BEGIN")  # one state of the file for all questions
    try:
        total = _total(connection, hours)
        rows = _plain(connection, by, hours) if by in ("instance", "hour") else _shared(connection, by, hours)
    finally:
        connection.execute("ROLLBACK")
    if by == "hour":
        named = [(_iso(int(name)), figures) for name, figures in sorted(rows.items())]
    else:
        named = sorted(
            ((NO_NAME.get(by, "") if name == "" else str(name), figures) for name, figures in rows.items()),
            key=lambda row: (row[0] in (IDLE, UNFINISHED), -row[1].dollars, row[0]),
        )
    return Report(by, begin, now, total, tuple(named))


def spent(connection: sqlite3.Connection, since: float, now: float) -> tuple[float, int]:
    """Dollars, and tokens of prompts and answers, from the hour in which `since` lies to that of `now`."""
    total = _total(connection, (hour_of(since), hour_of(now)))
    return total.dollars, total.tokens_in + total.tokens_out


def _total(connection: sqlite3.Connection, hours: Hours) -> Figures:
    total = Figures()
    _rent_into(total, connection.execute(f"SELECT {_RENT} FROM rent WHERE {_THEN}", hours).fetchone())
    _served_into(total, connection.execute(f"SELECT {_SUMS} FROM served WHERE {_THEN}", hours).fetchone())
    return total


def _plain(connection: sqlite3.Connection, by: str, hours: Hours) -> dict[str | int, Figures]:
    """By what rent is stored by."""
    rows: dict[str | int, Figures] = {}
    rent = f"SELECT {by}, {_RENT}, max(machine) FROM rent WHERE {_THEN} GROUP BY {by}"
    for name, *sums, machine in connection.execute(rent, hours):
        figures = rows[name] = Figures(machine_id=machine if by == "instance" else None)
        _rent_into(figures, sums)
    served = f"SELECT {by}, {_SUMS} FROM served WHERE {_THEN} GROUP BY {by}"
    for name, *sums in connection.execute(served, hours):
        _served_into(rows.setdefault(name, Figures(hours=0.0, busy_hours=0.0)), sums)
    return rows


def _shared(connection: sqlite3.Connection, by: str, hours: Hours) -> dict[str | int, Figures]:
    """By what served, each with its share of the rent."""
    rows: dict[str | int, Figures] = {}
    served = f"SELECT {by}, {_SUMS} FROM served WHERE {_THEN} GROUP BY {by}"
    for name, *sums in connection.execute(served, hours):
        _served_into(rows.setdefault(name, Figures()), sums)
    for name, dollars in shares(_worked(connection, by, hours)):
        rows.setdefault(name, Figures()).dollars += dollars
    if (left := rows.get(UNFINISHED)) is not None and left.dollars <= 0:
        del rows[UNFINISHED]
    (idle,) = connection.execute(
        f"SELECT sum(max(dollars - busy_dollars, 0)) FROM rent WHERE {_THEN}", hours
    ).fetchone()
    if idle:
        rows[IDLE] = Figures(dollars=idle, idle_dollars=idle)
    return rows


def _worked(connection: sqlite3.Connection, by: str, hours: Hours) -> Iterator[WorkedHour]:
    """Each hour of each instance: what its work cost, and for whom it was."""
    question = (
        f"SELECT hour, instance, min(busy_dollars, dollars), NULL, 0, 0 FROM rent WHERE {_THEN} UNION ALL "
        f"SELECT hour, instance, NULL, {by}, sum(tokens_in + tokens_out), sum(requests) FROM served "
        f"WHERE {_THEN} GROUP BY hour, instance, {by} ORDER BY 1, 2"
    )
    at: tuple[int, int] | None = None
    dollars, served = 0.0, dict[str, tuple[int, int]]()
    for hour, instance, busy, name, tokens, requests in connection.execute(question, hours):
        if at != (hour, instance):
            if at is not None:
                yield *at, dollars, served
            at, dollars, served = (hour, instance), 0.0, {}
        if busy is None:
            served[name] = (tokens, requests)
        else:
            dollars = busy
    if at is not None:
        yield *at, dollars, served


def _rent_into(figures: Figures, sums: Any) -> None:
    dollars, busy_dollars, seconds, busy_seconds = (each or 0 for each in sums)
    figures.dollars += dollars
    figures.idle_dollars += max(dollars - busy_dollars, 0.0)
    figures.hours = (figures.hours or 0.0) + seconds / HOUR_S
    figures.busy_hours = (figures.busy_hours or 0.0) + busy_seconds / HOUR_S


def _served_into(figures: Figures, sums: Any) -> None:
    requests, errors, tokens_in, tokens_out, estimated, bandwidth = (each or 0 for each in sums)
    figures.requests += requests
    figures.errors += errors
    figures.tokens_in += tokens_in
    figures.tokens_out += tokens_out
    figures.estimated_tokens += estimated
    figures.bandwidth_dollars += bandwidth
    figures.dollars += bandwidth


def _iso(hour: int) -> str:
    return datetime.fromtimestamp(hour, UTC).strftime("%Y-%m-%dT%H:%MZ")
