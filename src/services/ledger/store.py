"""The file in which the ledger is kept. Everything blocks for a moment and belongs into a thread; one may write at a
time, which a lock sees to.

A batch is written in one transaction, so that after a kill it is there or it is not, and a batch that is written a
second time changes nothing. Several processes may write to one file: a second of an instance counts once, whoever saw
it (`seconds.py`).
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from vastproxy.services.ledger.batch import Batch, Experience, Rent, Served
from vastproxy.services.ledger.schema import UnusableLedger, bring_up, version_of
from vastproxy.services.ledger.seconds import HOUR_S, hour_of, packed, unpacked

T = TypeVar("T")

#: How long one process waits for another one that writes.
BUSY_S: Final = 5.0
#: Seconds are told apart for so long: a batch may wait for a full disk.
MASKS_FOR_S: Final = 26 * HOUR_S
#: Time goes on by no more than `_LEAP_S` beyond what the file knew `_SETTLED_S` ago: a clock that is far ahead for less
#: than that deletes nothing that is not old, and no seconds of the hour that it really is.
_SETTLED_S: Final = 12 * HOUR_S
_LEAP_S: Final = 24 * HOUR_S
#: How SQLite (3.51) fails to make the file through which readers and writers find each other, which even readers need.
_WANTS_TO_WRITE: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
#: Pages of 4 KB of the log of writes before they are moved into the file.
_CHECKPOINT_PAGES: Final = 512

_ADD_SERVED: Final = """
INSERT INTO served VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (hour, instance, model, key) DO UPDATE SET
requests = requests + excluded.requests, errors = errors + excluded.errors,
tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out,
estimated_tokens = estimated_tokens + excluded.estimated_tokens,
received_bytes = received_bytes + excluded.received_bytes, sent_bytes = sent_bytes + excluded.sent_bytes,
bandwidth_dollars = bandwidth_dollars + excluded.bandwidth_dollars
"""
_ADD_RENT: Final = """
INSERT INTO rent VALUES (?,?,?,?,?,?,?) ON CONFLICT (hour, instance) DO UPDATE SET
machine = coalesce(excluded.machine, machine), dollars = dollars + excluded.dollars,
busy_dollars = busy_dollars + excluded.busy_dollars, seconds = seconds + excluded.seconds,
busy_seconds = busy_seconds + excluded.busy_seconds
"""
#: What was last seen long after it is seen now was so by a clock that was ahead.
_SEEN: Final = f"""
first_seen = min(first_seen, excluded.first_seen), last_seen = CASE
WHEN last_seen > excluded.last_seen + {MASKS_FOR_S} THEN excluded.last_seen ELSE max(last_seen, excluded.last_seen) END
"""
_SEE_MACHINE: Final = f"""
INSERT INTO machine VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0, 0, 0, '[]') ON CONFLICT (id) DO UPDATE SET
gpu = excluded.gpu, up_seconds = up_seconds + excluded.up_seconds, {_SEEN}
"""
_SEE_RENTAL: Final = f"""
INSERT INTO rental VALUES (?1, ?2, ?3, ?4) ON CONFLICT (machine, identity) DO UPDATE SET {_SEEN}
"""
_ADD_EXPERIENCE: Final = """
UPDATE machine SET requests = requests + ?, errors = errors + ?, drops = drops + ?, tokens = tokens + ?,
seconds = seconds + ?, ttft = ? WHERE id = ?
"""


class Store:
    """One file. Opened when it is first needed, and again after a failure."""

    def __init__(self, path: Path, *, writer: str, keep_days: int = 400) -> None:
        """`writer` names this process and no other."""
        self.path = path
        self._writer = writer
        self._keep_s = keep_days * 86_400
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._pruned_at = 0

    def write(self, batch: Batch) -> None:
        """Add it to what is there, unless that was done before. Raises UnusableLedger, sqlite3.Error, OSError; then
        nothing of it was added."""
        with self._lock, self._transaction() as connection:
            found = connection.execute("SELECT batch FROM writer WHERE id = ?", (self._writer,)).fetchone()
            if found is not None and found[0] >= batch.number:
                return
            for rent in batch.rent:
                _add_rent(connection, rent)
            connection.executemany(_ADD_SERVED, map(_row, batch.served))
            for experience in batch.machines:
                _add_experience(connection, experience, batch.until)
            connection.execute(
                "INSERT INTO writer VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET batch = ?2, at = ?3",
                (self._writer, batch.number, batch.until),
            )
            if hour_of(batch.until) != self._pruned_at:
                _prune(connection, batch.until, self._keep_s)
                self._pruned_at = hour_of(batch.until)

    def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Ask it something. Raises as `write` does."""
        with self._lock, self._failing_closed():
            return question(self._opened())

    def close(self) -> None:
        """Let go of the file. It may be used again, and is opened then."""
        with self._lock:
            self._drop()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_ledger(self.path)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _failing_closed(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnusableLedger, OSError):
            self._drop()  # it may have been replaced or repaired when it is tried again
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._failing_closed():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def open_ledger(path: Path) -> sqlite3.Connection:
    """The file, made with its directory where there is none, for its owner alone; its tables in the present version.
    Raises UnusableLedger, sqlite3.Error, OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    )  # files beside it take over its mode
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        version_of(connection)  # before anything is changed
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        bring_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """A ledger that is there, perhaps written by a running proxy, perhaps where nobody may write. Raises as
    `open_ledger` does."""
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    found = path.resolve()
    try:
        return _reading(found, "mode=ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _WANTS_TO_WRITE:
            raise
        if _has_log(found):
            raise UnusableLedger(
                f"what was written last is in {found.name}-wal, which can only be read where its directory can be "
                "written: copy both files to such a place"
            ) from None
    return _reading(found, "mode=ro&immutable=1")


def _reading(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=BUSY_S)
    try:
        if version_of(connection) == 0:
            raise UnusableLedger("it is empty")
    except BaseException:
        connection.close()
        raise
    return connection


def _has_log(path: Path) -> bool:
    """Are there writes that have not been moved into the file? Then it is not whole without them."""
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False


def _add_rent(connection: sqlite3.Connection, rent: Rent) -> None:
    """The seconds that nobody has counted yet, at this price."""
    at = (rent.hour, rent.instance_id)
    found = connection.execute("SELECT seen, busy FROM mask WHERE hour = ? AND instance = ?", at).fetchone()
    if (
        found is None
        and connection.execute("SELECT 1 FROM rent WHERE hour = ? AND instance = ?", at).fetchone()
    ):
        return  # so long ago that it is not known any more which seconds were counted
    seen, busy = (0, 0) if found is None else (unpacked(found[0]), unpacked(found[1]))
    new, new_busy = (rent.seen & ~seen).bit_count(), (rent.busy & ~busy).bit_count()
    if new or new_busy:
        each = rent.dollars_per_hour / HOUR_S
        row = (*at, rent.machine_id, new * each, new_busy * each, new, new_busy)
        connection.execute(_ADD_RENT, row)
        masks = (*at, packed(seen | rent.seen), packed(busy | rent.busy))
        connection.execute("INSERT OR REPLACE INTO mask VALUES (?,?,?,?)", masks)
    if rent.machine_id is not None:
        first = rent.hour + (rent.seen & -rent.seen).bit_length() - 1
        last = rent.hour + rent.seen.bit_length()
        up = new if rent.is_running else 0
        connection.execute(_SEE_MACHINE, (rent.machine_id, rent.gpu, first, last, up))
        connection.execute(_SEE_RENTAL, (rent.machine_id, rent.identity, first, last))


def _add_experience(connection: sqlite3.Connection, one: Experience, now: float) -> None:
    connection.execute(_SEE_MACHINE.replace("gpu = excluded.gpu,", ""), (one.machine_id, "", now, now, 0))
    (stored,) = connection.execute("SELECT ttft FROM machine WHERE id = ?", (one.machine_id,)).fetchone()
    before = counts_of(stored, len(one.ttft))
    ttft = json.dumps([old + new for old, new in zip(before, one.ttft, strict=True)], separators=(",", ":"))
    counts = (one.requests, one.errors, one.drops, one.tokens, one.seconds, ttft, one.machine_id)
    connection.execute(_ADD_EXPERIENCE, counts)


def counts_of(stored: str, length: int) -> list[int]:
    """A list of so many numbers; zeros for anything else."""
    try:
        found = json.loads(stored)
    except (ValueError, TypeError):
        found = None
    if isinstance(found, list) and len(found) == length and all(type(each) is int for each in found):
        return found
    return [0] * length


def _row(one: Served) -> tuple[int | str | float, ...]:
    return (
        *(one.hour, one.instance_id, one.model, one.key, one.requests, one.errors),
        *(one.tokens_in, one.tokens_out, one.estimated_tokens, one.received_bytes, one.sent_bytes),
        one.bandwidth_dollars,
    )


def _prune(connection: sqlite3.Connection, now: float, keep_s: int) -> None:
    (known,) = connection.execute(
        "SELECT max(hour) FROM rent WHERE hour <= ?", (now - _SETTLED_S,)
    ).fetchone()
    if known is None:
        return  # there is nothing yet that could be old
    now = min(now, known + _LEAP_S)
    connection.execute("DELETE FROM mask WHERE hour < ?", (hour_of(now) - MASKS_FOR_S,))
    for table in ("rent", "served"):
        connection.execute(f"DELETE FROM {table} WHERE hour < ?", (hour_of(now) - keep_s,))
    connection.execute("DELETE FROM writer WHERE at < ?", (now - MASKS_FOR_S,))
