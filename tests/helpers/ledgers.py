"""Ledgers for tests: rented instances, requests that have ended, and files with something in them."""

from pathlib import Path

from vastproxy.services.ledger.book import Book
from vastproxy.services.ledger.entry import Entry
from vastproxy.services.ledger.rented import Rented
from vastproxy.services.ledger.store import Store

#: A full hour, in unix time; long ago, so that a command that goes by the real clock can tell of it.
HOUR = 1_699_200_000


def make_rented(id: int = 1, dollars_per_hour: float = 0.36, **over: object) -> Rented:
    """One instance on a machine of its own."""
    values: dict[str, object] = {
        "id": id,
        "identity": f"{id}@100",
        "machine_id": 7000 + id,
        "gpu": "1x RTX 4090",
        "is_running": True,
        "dollars_per_hour": dollars_per_hour,
        "dollars_per_byte_in": 0.0,
        "dollars_per_byte_out": 0.0,
        **over,
    }
    return Rented(**values)  # type: ignore[arg-type]


def make_entry(
    instance_id: int = 1,
    model: str | None = "m",
    key: str | None = "web",
    *,
    operation: str = "chat",
    status: int = 200,
    error: str | None = None,
    tokens: tuple[int | None, int | None] = (10, 20),
    pieces: int = 21,
    streamed: bool = True,
    received: int = 400,
    sent: int = 4000,
    ttft_s: float | None = 0.12,
    took_s: float = 2.12,
) -> Entry:
    """A stream of twenty tokens that ended well."""
    return (
        *(instance_id, model, key, operation, status, error, *tokens),
        *(pieces, streamed, received, sent, ttft_s, took_s),
    )


def busy_book(
    *instances: Rented, seconds: int = 60, start: int = HOUR, entries: tuple[Entry, ...] = ()
) -> Book:
    """A book that has seen these instances for so long, all of them at work, and these requests."""
    book = Book()
    book.rented = {one.id: one for one in instances or (make_rented(),)}
    book.tick(start, 0.0, book.rented)
    book.entries.extend(entries)
    book.digest(start, most=len(entries))
    book.tick(start + seconds, seconds, book.rented)
    return book


def write_ledger(path: Path, *books: Book, until: float = HOUR + 60, writer: str = "test") -> None:
    """A file with what these books have noted."""
    store = Store(path, writer=writer)
    for book in books:
        batch = book.close(until)
        assert batch is not None
        store.write(batch)
    store.close()
