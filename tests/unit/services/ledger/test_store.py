"""The file: a batch is in it once, seconds count once whoever saw them, and a file of others is left alone."""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from vastproxy.services.ledger.batch import Batch, Rent, Served
from vastproxy.services.ledger.schema import APPLICATION_ID, STEPS, UnusableLedger, bring_up
from vastproxy.services.ledger.store import MASKS_FOR_S, Store, counts_of, open_ledger, open_to_read


def rent(hour: int, seen: int, busy: int = 0, dollars_per_hour: float = 3600.0) -> Rent:
    return Rent(hour, 1, 7001, "1@100", "1x RTX 4090", True, dollars_per_hour, seen, busy)


def batch(number: int, *rents: Rent, served: tuple[Served, ...] = (), until: float = HOUR + 60) -> Batch:
    return Batch(number, until, rents, served, ())


def rented(path: Path) -> list[tuple[float, float, int, int]]:
    connection = open_to_read(path)
    found = connection.execute(
        "SELECT dollars, busy_dollars, seconds, busy_seconds FROM rent ORDER BY hour"
    ).fetchall()
    connection.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


def test_a_file_for_its_owner_alone(path: Path) -> None:
    store = Store(path, writer="a")
    store.write(batch(1, rent(HOUR, 0b11)))
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    store.close()
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_batch_that_is_written_again_changes_nothing(path: Path) -> None:
    store = Store(path, writer="a")
    one = batch(1, rent(HOUR, 0b11), served=(Served(HOUR, 1, "m", "k", requests=1, tokens_in=5),))
    store.write(one)
    store.write(one)
    assert store.read(lambda file: file.execute("SELECT requests, tokens_in FROM served").fetchall()) == [
        (1, 5)
    ]
    store.close()
    assert rented(path) == [(2.0, 0.0, 2, 0)]


def test_two_proxies_see_a_second_once(path: Path) -> None:
    """Busy is what one of them had work in."""
    one, other = Store(path, writer="a"), Store(path, writer="b")
    one.write(batch(1, rent(HOUR, 0b0111, 0b0001)))
    other.write(batch(1, rent(HOUR, 0b1110, 0b1010)))
    one.close()
    other.close()
    assert rented(path) == [(4.0, 3.0, 4, 3)]


flushes = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 255), st.integers(0, 255), st.booleans()), max_size=8
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flushes)
def test_in_whatever_order_and_however_often(
    tmp_path_factory: pytest.TempPathFactory, flushed: list[tuple[str, int, int, bool]]
) -> None:
    """The seconds of a file are those that anybody has seen, none of them twice."""
    path = tmp_path_factory.mktemp("ledger") / "l.db"
    stores = {name: Store(path, writer=name) for name in "ab"}
    seen = worked = 0
    for number, (writer, mask, busy, again) in enumerate(flushed, start=1):
        one = batch(number, rent(HOUR, mask | busy, busy))
        for _ in range(1 + again):
            stores[writer].write(one)
        seen |= mask | busy
        worked |= busy
    for store in stores.values():
        store.close()
    if seen:
        assert rented(path) == [
            (float(seen.bit_count()), float(worked.bit_count()), seen.bit_count(), worked.bit_count())
        ]


def test_a_restart_goes_on_where_it_was(path: Path) -> None:
    write_ledger(path, busy_book(), writer="before")
    write_ledger(path, busy_book(seconds=90), writer="after", until=HOUR + 90)
    ((dollars, _, seconds, busy),) = rented(path)
    assert (seconds, busy) == (90, 90)
    assert dollars == pytest.approx(0.36 * 90 / 3600)


def test_old_hours_are_forgotten(path: Path) -> None:
    store = Store(path, writer="a", keep_days=2)
    for day in (0, 1, 2, 3):
        hour = HOUR + day * 86_400
        served = (Served(hour, 1, "m", "k", requests=1),)
        store.write(batch(day + 1, rent(hour, 1), served=served, until=hour + 60))
    counts = store.read(
        lambda file: [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
    )
    store.close()
    assert dict(zip(TABLES, counts, strict=True)) == {"rent": 3, "served": 3, "mask": 2, "machine": 1}


TABLES = ("rent", "served", "mask", "machine")


def test_seconds_that_cannot_be_told_apart_any_more_are_not_counted(path: Path) -> None:
    """A batch that waited for days for a full disk must not count what another proxy has counted."""
    store = Store(path, writer="a")
    store.write(batch(1, rent(HOUR, 0b1)))
    between, late = HOUR + MASKS_FOR_S // 2, HOUR + MASKS_FOR_S + 7200
    store.write(batch(2, rent(between, 0b1), until=between + 60))
    store.write(batch(3, rent(late, 0b1), until=late + 60))
    store.write(batch(4, rent(HOUR, 0b11), rent(HOUR + 3600, 0b11), until=late + 120))
    store.close()
    assert [seconds for _, _, seconds, _ in rented(path)] == [1, 2, 1, 1]


YEARS = 3 * 365 * 86_400


@pytest.mark.parametrize("ahead_for", [1, 2, 11], ids=lambda hours: f"{hours} h")
def test_a_clock_that_is_ahead_deletes_nothing(path: Path, ahead_for: int) -> None:
    """Neither old hours, nor which seconds of the present one are counted, nor what is known of other writers; also
    where another proxy has begun meanwhile."""
    store, other = Store(path, writer="a", keep_days=30), Store(path, writer="b", keep_days=30)
    for number in range(20):
        hour = HOUR + number * 86_400
        served = (Served(hour, 1, "m", "k", requests=1),)
        store.write(batch(number + 1, rent(hour, 0b1), served=served, until=hour + 60))
    other.write(batch(1, rent(hour, 0b10), until=hour + 60))
    for number in range(ahead_for):
        wrong = hour + YEARS + number * 3600
        store.write(batch(30 + number, rent(wrong, 0b1), until=wrong + 60))
        begun = Store(path, writer=f"c{number}", keep_days=30)
        begun.write(batch(1, rent(wrong, 0b10), until=wrong + 120))
        begun.close()
    other.write(batch(1, rent(hour, 0b10), served=served, until=hour + 60))
    store.write(batch(60, rent(hour, 0b111), until=hour + 120))
    kept = store.read(
        lambda file: file.execute("SELECT hour, seconds FROM rent WHERE hour <= ?", (hour,)).fetchall()
    )
    requests = store.read(lambda file: file.execute("SELECT sum(requests) FROM served").fetchone())
    store.close()
    other.close()
    assert kept == [*((HOUR + number * 86_400, 1) for number in range(19)), (hour, 3)]
    assert requests == (20,)


def test_old_hours_are_forgotten_after_a_long_pause(path: Path) -> None:
    """Half a day after the proxy was begun again: by then it is no mistake of a clock."""
    store = Store(path, writer="a", keep_days=2)
    store.write(batch(1, rent(HOUR, 1)))
    for number in range(14):
        hour = HOUR + YEARS + number * 3600
        store.write(batch(number + 2, rent(hour, 1), until=hour + 60))
    hours = store.read(lambda file: file.execute("SELECT min(hour) FROM rent").fetchone())
    store.close()
    assert hours == (HOUR + YEARS,)


def test_a_clock_that_is_behind_deletes_nothing(path: Path) -> None:
    """As that of a machine without a battery that has not asked for the time yet."""
    store = Store(path, writer="a", keep_days=2)
    store.write(batch(1, rent(HOUR, 1)))
    store.write(batch(2, rent(0, 1), until=60.0))
    store.write(batch(3, rent(HOUR, 0b11), until=HOUR + 120))
    seconds = store.read(
        lambda file: file.execute("SELECT seconds FROM rent WHERE hour = ?", (HOUR,)).fetchone()
    )
    store.close()
    assert seconds == (2,)


def test_a_machine_is_not_seen_in_times_to_come(path: Path) -> None:
    """Once the clock that was ahead is right again; neither it nor its rental."""
    store = Store(path, writer="a")
    for number, hour in enumerate((HOUR, HOUR + YEARS, HOUR + 3600), start=1):
        store.write(batch(number, rent(hour, 0b11), until=hour + 60))
    store.close()
    connection = open_to_read(path)
    for table in ("machine", "rental"):
        seen = connection.execute(f"SELECT first_seen, last_seen FROM {table}").fetchall()
        assert seen == [(HOUR, HOUR + 3602)], table
    connection.close()


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    write_ledger(path, busy_book())
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    store = Store(path, writer="a")
    with pytest.raises(UnusableLedger, match="a newer vastproxy has written it"):
        store.write(batch(1, rent(HOUR, 1)))
    with pytest.raises(UnusableLedger, match="newer"):
        open_to_read(path)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UnusableLedger, match="another program"):
        Store(path, writer="a").write(batch(1, rent(HOUR, 1)))
    assert path.read_bytes() == before


def test_what_is_no_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else entirely, and much longer than a header of SQLite would be" * 99)
    before = path.read_bytes()
    with pytest.raises(sqlite3.DatabaseError):
        Store(path, writer="a").write(batch(1, rent(HOUR, 1)))
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with pytest.raises(UnusableLedger, match="empty"):
        open_to_read(path)
    write_ledger(path, busy_book())
    assert rented(path)[0][2] == 60


def test_a_file_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_to_read(path)
    assert not path.exists()


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """Nobody can make a file beside it. Rights keep no administrator from it; what leads nowhere does."""
    path.with_name(f"{path.name}-shm").symlink_to("nowhere/at-all")
    path.parent.chmod(0o500)
    try:
        yield
    finally:
        path.parent.chmod(0o700)


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A place whose name means something in an address."""
    return tmp_path / "a b?mode=rw#%41" / "ledger.db"


def test_a_file_is_read_where_nobody_may_write(strange: Path) -> None:
    """As in a snapshot, a backup, or a file system that is mounted to be read."""
    write_ledger(strange, busy_book())
    with unwritable(strange):
        assert rented(strange)[0][2] == 60


def snapshot(path: Path, into: Path) -> Path:
    """A ledger as it lies there while it is written, with what is not in the file yet."""
    store = Store(path, writer="a")
    store.write(batch(1, rent(HOUR, 0b11)))
    into.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        shutil.copy(path.with_name(name), into / name)
    store.close()
    return into / path.name


def test_a_file_is_not_read_without_what_was_written_last(path: Path, tmp_path: Path) -> None:
    """It says what to do, rather than tell of less."""
    copy = snapshot(path, tmp_path / "snapshot")
    with unwritable(copy), pytest.raises(UnusableLedger, match=r"is in ledger\.db-wal, .*: copy both files"):
        open_to_read(copy)


def test_a_snapshot_is_read_where_one_may_write(path: Path, tmp_path: Path) -> None:
    assert rented(snapshot(path, tmp_path / "snapshot")) == [(2.0, 0.0, 2, 0)]


def test_an_empty_log_of_writes_keeps_nothing_back(path: Path) -> None:
    write_ledger(path, busy_book())
    path.with_name(f"{path.name}-wal").touch()
    with unwritable(path):
        assert rented(path)[0][2] == 60


def test_a_broken_file_is_not_tried_in_another_way(path: Path) -> None:
    write_ledger(path, busy_book())
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"x" * (len(whole) - 100))
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        open_to_read(path)


def test_a_version_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    connection.execute("CREATE TABLE rental (a)")  # in the way of ours, in a file that says it is ours
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        bring_up(connection)
    assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [
        ("rental",)
    ]
    connection.close()


def test_a_failed_batch_leaves_nothing(path: Path) -> None:
    store = Store(path, writer="a")
    bad = (Served(HOUR, 1, "m", "k"), Served(HOUR, 1, None, "k"))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        store.write(batch(1, rent(HOUR, 1), served=bad))
    store.write(batch(1, rent(HOUR, 0b11)))
    store.close()
    assert rented(path)[0][2] == 2


def test_machines_add_up(path: Path) -> None:
    for writer in ("a", "b"):
        book = busy_book(make_rented(identity=f"1@{writer}"), entries=(make_entry(), make_entry(status=500)))
        write_ledger(path, book, writer=writer)
    connection = open_to_read(path)
    found = connection.execute("SELECT requests, errors, up_seconds, tokens FROM machine").fetchall()
    rentals = connection.execute("SELECT count(*) FROM rental").fetchone()
    connection.close()
    assert found == [(4, 2, 60, 38)]
    assert rentals == (2,)


@pytest.mark.parametrize("junk", ["", "[", "{}", "[1]", '["a","b"]', "[1.5,2]"])
def test_counts_that_cannot_be_read_are_none(junk: str) -> None:
    assert counts_of(junk, 2) == [0, 0]
    assert counts_of("[1,2]", 2) == [1, 2]


def test_a_file_whose_tables_are_being_made_is_nobody_elses(path: Path) -> None:
    """Several proxies may begin at the same time: one looks, and another one makes the tables meanwhile."""
    path.parent.mkdir()
    looking = sqlite3.connect(path, isolation_level=None)
    made: list[sqlite3.Connection] = []

    def another_one_is_faster(statement: str) -> None:
        if "count(*)" in statement and not made:
            made.append(open_ledger(path))

    looking.set_trace_callback(another_one_is_faster)
    bring_up(looking)
    assert made
    for connection in (looking, *made):
        connection.close()
