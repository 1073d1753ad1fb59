"""The ledger of a running proxy: what is noted is in the file soon, and a file that cannot be used stops nobody."""

import asyncio
import logging
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.ledgers import HOUR, make_entry
from vastproxy.services.ledger.ledger import MAX_WAITING, SLICE, Ledger, LedgerUnavailable, said
from vastproxy.services.ledger.machines import Machine
from vastproxy.services.ledger.schema import UnusableLedger
from vastproxy.services.ledger.store import open_to_read
from vastproxy.services.tasks import Tasks
from vastproxy.settings.model import FleetSettings


class Clock:
    """Monotonic and wall time in one."""

    def __init__(self) -> None:
        self.now = float(HOUR)

    def __call__(self) -> float:
        return self.now


class Kept:
    """A ledger on a clock of its own, with one instance that has served."""

    def __init__(self, path: Path | None) -> None:
        self.clock = Clock()
        self.ahead = 0
        """By how many seconds the wall clock is wrong."""
        self.ledger = Ledger(path, clock=self.clock, wall_clock=lambda: self.clock() + self.ahead)
        self.instance = make_instance(id=1)

    def live(self, seconds: int = 60, requests: int = 1) -> None:
        self.ledger.listed((self.instance,), FleetSettings())
        self.ledger.tick((), {})
        self.clock.now += seconds
        for _ in range(requests):
            self.ledger.note(make_entry())
        self.ledger.tick((1,), {1: 0})


def rows(path: Path) -> tuple[int, int]:
    """Seconds of rent, and requests."""
    connection = open_to_read(path)
    (seconds,) = connection.execute("SELECT sum(seconds) FROM rent").fetchone()
    (requests,) = connection.execute("SELECT sum(requests) FROM served").fetchone()
    connection.close()
    return seconds, requests


async def test_what_is_noted_is_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "l.db")
    kept.live(requests=SLICE * 2 + 1)
    assert await kept.ledger.flush()
    assert rows(tmp_path / "l.db") == (60, SLICE * 2 + 1)
    await kept.ledger.aclose()


async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "l.db")
    kept.live()
    await kept.ledger.aclose()
    assert not (tmp_path / "l.db-wal").exists()
    assert rows(tmp_path / "l.db") == (60, 1)


async def test_today(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "l.db")
    assert kept.ledger.today() == {"cost_today_dollars": None, "tokens_today": None}
    kept.live(3600)
    await kept.ledger.flush()
    assert kept.ledger.today() == {"cost_today_dollars": 0.36, "tokens_today": 30}
    kept.clock.now += 86_400
    await kept.ledger.flush()
    assert kept.ledger.today() == {"cost_today_dollars": 0.0, "tokens_today": 0}
    await kept.ledger.aclose()


async def test_costs_and_machines_are_told_up_to_now(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "l.db")
    kept.live()
    report = await kept.ledger.cost("model", 0.0)
    assert report.total.requests == 1
    assert dict(report.rows)["m"].dollars == pytest.approx(0.006)
    (machine,) = await kept.ledger.machines()
    assert isinstance(machine, Machine)
    assert kept.ledger.machine(kept.instance) == machine
    shown = kept.ledger.machine_json(kept.instance)
    assert shown is not None
    assert (shown["machine_id"], shown["rented_before"]) == (24817, False)
    assert kept.ledger.machine(make_instance(machine_id=None)) is None
    assert kept.ledger.machine_json(make_instance(machine_id=5)) is None
    await kept.ledger.aclose()


async def test_a_machine_that_was_rented_before(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    for id in (1, 2):
        kept = Kept(path)
        kept.clock.now += id * 3600
        kept.instance = make_instance(id=id)
        kept.live()
        await kept.ledger.aclose()
        shown = kept.ledger.machine_json(kept.instance)
        assert shown is not None
        assert shown["rented_before"] is (id == 2)


async def test_a_clock_that_was_ahead_for_a_moment(tmp_path: Path) -> None:
    """What was there before is told all the same, and the right hour goes on."""
    kept = Kept(tmp_path / "l.db")
    kept.live(1800)
    assert await kept.ledger.flush()
    kept.ahead = 3 * 365 * 86_400
    kept.live(5)
    assert await kept.ledger.flush()
    assert kept.ledger.machine(kept.instance) is not None
    kept.ahead = 0
    kept.live(600)
    report = await kept.ledger.cost("hour", 0.0)
    assert report.total.hours == pytest.approx(2400 / 3600)
    assert report.total.requests == 2
    assert kept.ledger.today() == {"cost_today_dollars": 0.24, "tokens_today": 60}
    (machine,) = await kept.ledger.machines()
    assert machine.last_seen_unix == HOUR + 2405
    await kept.ledger.aclose()


async def test_without_a_file_everything_goes_on() -> None:
    kept = Kept(None)
    kept.live()
    assert not await kept.ledger.flush()
    assert kept.ledger.book.totals.models["m"].answer == 20
    assert kept.ledger.book.close(HOUR) is None, "nothing is piled up"
    with pytest.raises(LedgerUnavailable, match=r"ledger\.enabled"):
        await kept.ledger.cost("instance", 0)
    await kept.ledger.aclose()
    assert "memory" in repr(kept.ledger)


async def test_a_file_that_cannot_be_used_is_warned_of_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was noted meanwhile is written when it can be."""
    path = tmp_path / "l.db"
    path.mkdir()
    kept = Kept(path)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            kept.live()
            assert not await kept.ledger.flush()
        with pytest.raises(LedgerUnavailable, match="is a directory"):
            await kept.ledger.machines()
        assert kept.ledger.today()["tokens_today"] is None
        path.rmdir()
        assert await kept.ledger.flush()
    assert rows(path) == (300, 5)
    warned, mended = caplog.messages
    assert warned.startswith(
        f"the ledger {path} cannot be used (is a directory): what instances cost is not kept"
    )
    assert mended == f"the ledger {path} can be written again"
    await kept.ledger.aclose()


async def broken(directory: Path, rounds: int) -> Kept:
    """A ledger that was lived with for so many writings while its file could not be used, which has just been
    mended."""
    path = directory / "l.db"
    path.mkdir()
    kept = Kept(path)
    for _ in range(rounds):
        kept.live()
        assert not await kept.ledger.flush()
    path.rmdir()
    return kept


@pytest.mark.parametrize("rounds", [1, MAX_WAITING, MAX_WAITING + 1, MAX_WAITING + 5])
async def test_the_first_answer_after_a_mend_is_whole(tmp_path: Path, rounds: int) -> None:
    """However long the file could not be used: who asks is told of all of it."""
    kept = await broken(tmp_path, rounds)
    report = await kept.ledger.cost("instance", 0.0)
    assert report.total.requests == rounds
    assert report.total.hours == pytest.approx(rounds / 60)
    assert kept.ledger.today()["tokens_today"] == 30 * rounds
    await kept.ledger.aclose()


@pytest.mark.parametrize("rounds", [1, MAX_WAITING, MAX_WAITING + 1, MAX_WAITING + 5])
async def test_closing_after_a_mend_writes_all_of_it(tmp_path: Path, rounds: int) -> None:
    kept = await broken(tmp_path, rounds)
    await kept.ledger.aclose()
    assert rows(tmp_path / "l.db") == (60 * rounds, rounds)


async def test_a_file_that_becomes_unusable_while_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is overwritten with something else, and put right again."""
    path = tmp_path / "l.db"
    kept = Kept(path)
    kept.live()
    assert await kept.ledger.flush()
    await kept.ledger.aclose()
    good = path.read_bytes()
    path.write_bytes(b"x" * len(good))
    kept.live()
    assert not await kept.ledger.flush()
    assert "not a database" in caplog.text
    path.write_bytes(good)
    kept.live()
    assert await kept.ledger.flush()
    assert rows(path) == (180, 3)
    await kept.ledger.aclose()


async def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SQLite says so by itself; nothing of a batch is in the file then."""
    path = tmp_path / "l.db"
    kept = Kept(path)
    kept.live()
    assert await kept.ledger.flush()
    assert kept.ledger._store is not None
    kept.ledger._store.read(lambda file: file.execute("PRAGMA max_page_count = 1").fetchone())
    pages = kept.ledger._store.read(lambda file: file.execute("PRAGMA page_count").fetchone()[0])
    for number in range(2000):
        kept.ledger.note(make_entry(model=f"model-{number}" * 20))
    kept.live()
    assert not await kept.ledger.flush()
    assert "database or disk is full" in caplog.text
    assert rows(path) == (60, 1)
    assert pages > 1
    assert await kept.ledger.flush(), "a new connection has the room again"
    assert rows(path) == (120, 2002)
    await kept.ledger.aclose()


async def test_a_flush_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    kept = Kept(path)
    kept.live()
    tasks = Tasks("test")
    flush = tasks.spawn(kept.ledger.flush(), name="flush")
    while not kept.ledger._writing.locked():
        await asyncio.sleep(0)
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    kept.live()
    await kept.ledger.aclose()
    await tasks.aclose()
    assert rows(path) == (120, 2)


async def test_instances_are_looked_at_when_they_change() -> None:
    kept = Kept(None)
    listed = (kept.instance,)
    kept.ledger.listed(listed, FleetSettings())
    before = kept.ledger.book.rented
    kept.ledger.listed(listed, FleetSettings())
    assert kept.ledger.book.rented is before
    kept.ledger.listed((), FleetSettings())
    assert kept.ledger.book.rented == {}


def test_why_a_file_cannot_be_used() -> None:
    assert said(PermissionError(13, "Permission denied")) == "permission denied"
    assert said(OSError("odd")) == "odd"
    assert said(UnusableLedger("it is empty")) == "it is empty"
    assert said(sqlite3.OperationalError()) == "OperationalError"


async def test_what_a_thread_was_left_with_comes_too_late_once_the_file_is_let_go_of(tmp_path: Path) -> None:
    """A writing that is cancelled goes on in its thread; it must not open the file again that nobody would close."""
    kept = Kept(tmp_path / "l.db")
    kept.live()
    left = partial(kept.ledger._write, kept.ledger._term)
    await kept.ledger.aclose()
    with pytest.raises(UnusableLedger, match="closed"):
        left()
    assert rows(tmp_path / "l.db") == (60, 1)
    kept.live()
    await kept.ledger.aclose()
    assert rows(tmp_path / "l.db") == (120, 2)
