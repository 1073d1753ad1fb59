"""The ledger of a running proxy: a book that is filled on the event loop, and a file that it is written to.

A file that cannot be used is warned of once and tried again; requests are served all the same, and what could not be
written is kept as long as there is room for it.
"""

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from vastproxy.services.errors import ServiceError
from vastproxy.services.ledger.batch import Batch
from vastproxy.services.ledger.book import Book
from vastproxy.services.ledger.machines import Machine, machines
from vastproxy.services.ledger.rented import rented
from vastproxy.services.ledger.report import By, Report, cost, spent
from vastproxy.services.ledger.schema import UnusableLedger
from vastproxy.services.ledger.store import Store
from vastproxy.services.threads import in_thread
from vastproxy.settings.ledger import LedgerSettings
from vastproxy.settings.model import FleetSettings
from vastproxy.vastai import Instance

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Requests whose end is taken in before others have their turn: about a millisecond.
SLICE: Final = 500
#: Batches that wait for a file that cannot be written. Each is at most what came in between two writings.
MAX_WAITING: Final = 2
_DAY_S: Final = 86_400
#: What is not worth a word, or told of by others.
_ERRORS = (sqlite3.Error, UnusableLedger, OSError)


class LedgerUnavailable(ServiceError):
    """There is no ledger, or its file cannot be used."""


class Ledger:
    """Belongs to one event loop. Without a `path` everything is counted for metrics, and nothing kept."""

    def __init__(
        self,
        path: Path | None = None,
        settings: LedgerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        settings = LedgerSettings() if settings is None else settings
        writer = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._store = None if path is None else Store(path, writer=writer, keep_days=settings.keep_days)
        self._clock, self._wall_clock = clock, wall_clock
        self._ticked_at = clock()
        self._writing = asyncio.Lock()
        self._lock = threading.Lock()
        self._term = 0
        """How often the file was let go of: what a thread began before that, it does not do behind it."""
        self._waiting: list[Batch] = []
        self._trouble = ""
        self._today: tuple[float, int] | None = None
        self._machines: dict[int, Machine] = {}
        self._instances: object = None
        self.book = Book()
        self.note = self.book.entries.append
        """To be called with an `Entry` when a request has ended that an instance was asked for."""

    def __repr__(self) -> str:
        return f"<Ledger {self._store.path if self._store is not None else 'in memory'}>"

    @property
    def path(self) -> Path | None:
        """The file, if there is to be one."""
        return None if self._store is None else self._store.path

    # ── what there is to note ──────────────────────────────────────────────────────────────────

    def listed(self, instances: tuple[Instance, ...], fleet: FleetSettings) -> None:
        """The account's instances as last read. Costs nothing when they are the same as before."""
        if instances is not self._instances:
            self._instances = instances
            self.book.rented = rented(instances, fleet)

    def tick(self, busy: Iterable[int], failures: Mapping[int, int]) -> None:
        """Some seconds have passed. `busy`: ids of the instances that have requests in flight; `failures`: attempts
        that have failed at each, ever since."""
        now, wall = self._clock(), self._wall_clock()
        self.book.failed(failures)
        self.book.tick(wall, now - self._ticked_at, busy)
        self._ticked_at = now

    async def digest(self) -> None:
        """Take in the requests that have ended. Others have their turn in between."""
        for _ in range(0, len(self.book.entries), SLICE):
            self.book.digest(self._wall_clock(), most=SLICE)
            await asyncio.sleep(0)

    # ── the file ───────────────────────────────────────────────────────────────────────────────

    async def flush(self) -> bool:
        """Write what has been noted. Is it in the file?"""
        await self.digest()
        if self._store is None:
            self.book.close(self._wall_clock())
            return False
        async with self._writing:
            try:
                is_closed = self._close_book()
                await in_thread(partial(self._write, self._term), name="ledger")
                if not is_closed:  # what waited has made room for the rest
                    self._close_book()
                    await in_thread(partial(self._write, self._term), name="ledger")
            except _ERRORS as error:
                self._failed(error)
                return False
            if self._trouble:
                logger.info("the ledger %s can be written again", self._store.path)
                self._trouble = ""
            return True

    def _close_book(self) -> bool:
        """Is all that was noted among what waits to be written? Not where too much waits already."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        batch = self.book.close(self._wall_clock())
        self._waiting += [] if batch is None else [batch]
        return True

    @contextmanager
    def _using(self, term: int) -> Iterator[Store]:
        """The file, in a thread, of which a cancelled flush may have left one behind. Raises UnusableLedger."""
        with self._lock:
            if self._store is None or term != self._term:
                raise UnusableLedger("it has been closed")
            yield self._store

    def _write(self, term: int) -> None:
        """What has been written is not written again, whatever comes behind it."""
        now = self._wall_clock()
        ids = {one.machine_id for one in self.book.rented.values() if one.machine_id is not None}
        midnight = int(now) // _DAY_S * _DAY_S
        with self._using(term) as store:
            while self._waiting:
                store.write(self._waiting[0])
                del self._waiting[0]
            self._today = store.read(lambda connection: spent(connection, midnight, now))
            found = store.read(lambda connection: machines(connection, ids))
        self._machines = {one.machine_id: one for one in found}

    def _read(self, question: Callable[[sqlite3.Connection], T], term: int) -> T:
        with self._using(term) as store:
            return store.read(question)

    def _let_go(self) -> None:
        with self._using(self._term) as store:
            self._term += 1
            store.close()

    def _failed(self, error: Exception) -> None:
        assert self._store is not None
        self._today = None
        why = said(error)
        if why != self._trouble:
            self._trouble = why
            logger.warning(
                "the ledger %s cannot be used (%s): what instances cost is not kept until that is mended, and the "
                "proxy goes on without it",
                self._store.path,
                why,
            )

    async def aclose(self) -> None:
        """Write what is left, and let go of the file."""
        await self.flush()
        if self._store is not None:
            await in_thread(self._let_go, name="ledger")

    # ── telling ────────────────────────────────────────────────────────────────────────────────

    def today(self) -> dict[str, float | int | None]:
        """For an overview: what was spent since midnight UTC, and for how many tokens, as of some seconds ago. None
        where the file does not tell."""
        if self._today is None:
            return {"cost_today_dollars": None, "tokens_today": None}
        return {"cost_today_dollars": round(self._today[0], 4), "tokens_today": self._today[1]}

    def machine(self, instance: Instance) -> Machine | None:
        """What is known of the machine on which it runs, as of some seconds ago; None while that is nothing."""
        return None if instance.machine_id is None else self._machines.get(instance.machine_id)

    def machine_json(self, instance: Instance) -> dict[str, Any] | None:
        """The same for a backend's row."""
        found = self.machine(instance)
        return None if found is None else found.to_json(instance.identity)

    async def cost(self, by: By, since: float) -> Report:
        """What was spent since the hour in which `since` (unix time) lies, up to now. Raises LedgerUnavailable."""
        now = self._wall_clock()
        return await self._ask(lambda connection: cost(connection, by, since, now))

    async def machines(self) -> tuple[Machine, ...]:
        """All machines that were ever rented. Raises LedgerUnavailable."""
        return await self._ask(machines)

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if self._store is None:
            raise LedgerUnavailable(
                "no ledger is kept: ledger.enabled is off, or nobody has a home directory"
            )
        store = self._store
        if not await self.flush():
            raise LedgerUnavailable(f"the ledger {store.path} cannot be used: {self._trouble}")
        try:
            async with self._writing:
                return await in_thread(partial(self._read, question, self._term), name="ledger")
        except _ERRORS as error:
            raise LedgerUnavailable(f"the ledger {store.path} cannot be used: {said(error)}") from None


def said(error: Exception) -> str:
    """Why a file cannot be used, as a phrase for a person."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error) or type(error).__name__
