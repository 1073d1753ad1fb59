"""What is told of costs: by whatever it is told, the rows are the whole, and idle time is nobody's."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.ledgers import HOUR, make_entry, make_rented, write_ledger
from vastproxy.services.ledger.book import Book
from vastproxy.services.ledger.report import WAYS, By, cost, spent
from vastproxy.services.ledger.store import open_to_read

SUMS = ("dollars", "idle_dollars", "bandwidth_dollars", "tokens_in", "tokens_out", "estimated_tokens")
COUNTS = ("requests", "errors")


def told(path: Path, by: By, since: float = 0.0) -> dict[str, Any]:
    connection = open_to_read(path)
    try:
        return cost(connection, by, since, HOUR + 9000.0).to_json()
    finally:
        connection.close()


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in report["rows"]}


requests = st.lists(
    st.builds(
        make_entry,
        st.integers(1, 3),
        st.sampled_from([None, "m", "n"]),
        st.sampled_from([None, "web"]),
        status=st.sampled_from([200, 499, 500]),
        tokens=st.tuples(st.none() | st.integers(0, 1000), st.none() | st.integers(0, 1000)),
    ),
    max_size=4,
)
steps = st.lists(
    st.tuples(st.integers(1, 2000), st.sets(st.integers(1, 3)), requests), min_size=1, max_size=6
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_parts_are_the_whole(tmp_path_factory: pytest.TempPathFactory, lived: list[Any]) -> None:
    """Whatever was rented, done and written down, in however many batches."""
    path = tmp_path_factory.mktemp("ledger") / "l.db"
    book, now = Book(), float(HOUR)
    book.rented = {id: make_rented(id, 0.5 * id, dollars_per_byte_out=1e-7) for id in (1, 2, 3)}
    book.tick(now, 0.0, ())
    for seconds, busy, entries in lived:
        now += seconds
        book.entries.extend(entries)
        book.digest(now)
        book.tick(now, seconds, busy)
        write_ledger(path, book, until=now, writer="w")
    seconds = now - HOUR
    for by in WAYS:
        report = told(path, by)
        total = report["total"]
        assert total["dollars"] == pytest.approx(seconds * 3.0 / 3600 + total["bandwidth_dollars"], abs=1e-5)
        for name in SUMS:
            assert sum(row[name] for row in report["rows"]) == pytest.approx(total[name], abs=1e-5), name
        for name in COUNTS:
            assert sum(row[name] for row in report["rows"]) == total[name]
        assert all(0 <= row["idle_dollars"] <= row["dollars"] + 1e-9 for row in report["rows"])
    connection = open_to_read(path)
    dollars, tokens = spent(connection, 0, now)
    connection.close()
    assert dollars == pytest.approx(total["dollars"], abs=1e-5)
    assert tokens == total["tokens_in"] + total["tokens_out"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two instances for an hour: one idle, one that worked for half of it, for two models and one key."""
    path, book = tmp_path / "l.db", Book()
    book.rented = {1: make_rented(1, 2.0), 2: make_rented(2, 1.0)}
    book.tick(HOUR, 0.0, ())
    book.tick(HOUR + 1800, 1800.0, ())
    book.tick(HOUR + 1800, 0.0, (1,))
    book.entries.append(make_entry(tokens=(100, 200)))
    book.entries.append(make_entry(model="n", key=None, tokens=(50, 50)))
    book.digest(HOUR + 1800)
    book.tick(HOUR + 3600, 1800.0, (1,))
    write_ledger(path, book, until=HOUR + 3600)
    return path


def test_by_instance(path: Path) -> None:
    report = told(path, "instance")
    assert (report["by"], report["since_unix"], report["until_unix"]) == ("instance", 0, HOUR + 9000)
    one, other = report["rows"]
    assert (one["name"], one["dollars"], one["idle_dollars"]) == ("1", 2.0, 1.0)
    assert (one["hours"], one["busy_hours"], one["machine_id"]) == (1.0, 0.5, 7001)
    assert one["dollars_per_million_tokens"] == 5000.0
    assert (other["name"], other["dollars"], other["idle_dollars"]) == ("2", 1.0, 1.0)
    assert other["dollars_per_million_tokens"] is None
    assert report["total"]["dollars"] == 3.0


def test_by_model(path: Path) -> None:
    """Work is shared by tokens, idle time stays apart and comes last."""
    report = told(path, "model")
    rows = by_name(report)
    assert [row["name"] for row in report["rows"]] == ["m", "n", "(idle)"]
    assert rows["m"]["dollars"] == 0.75
    assert rows["n"]["dollars"] == 0.25
    assert rows["(idle)"]["dollars"] == rows["(idle)"]["idle_dollars"] == 2.0


def test_by_key(path: Path) -> None:
    rows = by_name(told(path, "key"))
    assert {name: row["dollars"] for name, row in rows.items()} == {
        "web": 0.75,
        "(no key)": 0.25,
        "(idle)": 2.0,
    }


def test_by_hour(path: Path) -> None:
    rows = told(path, "hour")["rows"]
    assert [(row["name"], row["dollars"]) for row in rows] == [("2023-11-05T16:00Z", 3.0)]


def test_since_begins_with_the_hour_it_lies_in(path: Path) -> None:
    assert told(path, "hour", HOUR + 1234)["total"]["dollars"] == 3.0
    later = told(path, "model", HOUR + 3600)
    assert later["rows"] == []
    assert later["total"]["dollars"] == 0


def test_a_long_request_that_has_not_ended_is_told_apart(tmp_path: Path) -> None:
    path, book = tmp_path / "l.db", Book()
    book.rented = {1: make_rented(1, 2.0)}
    book.tick(HOUR, 0.0, (1,))
    book.tick(HOUR + 3600, 3600.0, (1,))
    write_ledger(path, book, until=HOUR + 3600)
    assert {name: row["dollars"] for name, row in by_name(told(path, "model")).items()} == {
        "(unfinished)": 2.0
    }


@pytest.fixture
def ahead(path: Path) -> Path:
    """The same; for a minute and a request of the next hour the clock was two years ahead, and then in its place."""
    book, wrong = Book(), HOUR + 3600 + 2 * 365 * 86_400
    book.rented = {1: make_rented(1, 2.0)}
    book.tick(wrong, 0.0, (1,))
    book.entries.append(make_entry(model="later", tokens=(1, 1)))
    book.digest(wrong)
    book.tick(wrong + 60, 60.0, (1,))
    write_ledger(path, book, until=wrong + 60, writer="ahead")
    return path


@pytest.mark.parametrize("by", WAYS)
def test_hours_that_are_still_to_come_are_not_told(ahead: Path, by: By) -> None:
    report = told(ahead, by)
    assert report["total"]["dollars"] == 3.0
    assert report["total"]["requests"] == 2
    assert sum(row["dollars"] for row in report["rows"]) == pytest.approx(3.0)
    assert "later" not in by_name(report)
    assert told(ahead, by, HOUR + 3600)["rows"] == []


def test_what_was_spent_does_not_count_hours_to_come(ahead: Path) -> None:
    connection = open_to_read(ahead)
    assert spent(connection, 0, HOUR + 9000) == pytest.approx((3.0, 400))
    assert spent(connection, HOUR + 3600, HOUR + 9000) == (0.0, 0)
    assert spent(connection, 0, HOUR + 3 * 365 * 86_400)[1] == 402
    connection.close()


def test_the_present_hour_is_told(path: Path) -> None:
    connection = open_to_read(path)
    assert cost(connection, "instance", HOUR, HOUR).total.requests == 2
    connection.close()
