"""What is known of machines, over all times they were rented."""

from pathlib import Path

import pytest

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from vastproxy.services.ledger.machines import Machine, machines, median
from vastproxy.services.ledger.store import open_to_read


def known(path: Path, ids: tuple[int, ...] | None = None) -> tuple[Machine, ...]:
    connection = open_to_read(path)
    try:
        return machines(connection, ids)
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """One machine rented twice, another one once."""
    path = tmp_path / "l.db"
    entries = tuple(make_entry() for _ in range(30))
    write_ledger(path, busy_book(make_rented(), seconds=3600, entries=entries), writer="a")
    again = busy_book(
        make_rented(5, machine_id=7001, identity="5@200"),
        make_rented(2),
        seconds=1800,
        start=HOUR + 7200,
        entries=(make_entry(5),),
    )
    again.way_lost(5)
    write_ledger(path, again, writer="b", until=HOUR + 9000)
    return path


def test_all_of_them(path: Path) -> None:
    first, second = known(path)
    assert (first.machine_id, first.rentals) == (7001, ("1@100", "5@200"))
    assert first.hours == 1.5
    assert (first.requests, first.errors, first.tunnel_drops) == (31, 0, 1)
    assert (first.first_seen_unix, first.last_seen_unix) == (HOUR, HOUR + 9000)
    assert first.tokens_per_s == 9.5
    assert first.ttft_p50_ms == 125.0
    assert first.score is not None
    assert first.score < 1.0
    assert (second.machine_id, second.requests, second.ttft_p50_ms, second.score) == (7002, 0, None, None)


def test_some_of_them(path: Path) -> None:
    assert [one.machine_id for one in known(path, (7002, 99))] == [7002]
    assert known(path, ()) == ()


def test_rented_before(path: Path) -> None:
    twice, once = known(path)
    assert twice.rented_before()
    assert not once.rented_before()
    assert twice.rented_before("5@200")
    assert not once.rented_before("2@100")
    assert once.rented_before("3@300")


def test_what_is_shown(path: Path) -> None:
    shown = known(path)[0].to_json("5@200")
    assert shown["rented_before"] is True
    assert shown["rentals"] == 2
    assert set(shown) >= {
        "machine_id",
        "first_seen_unix",
        "last_seen_unix",
        "hours",
        "requests",
        "errors",
        "tunnel_drops",
        "ttft_p50_ms",
        "tokens_per_s",
        "score",
    }


def test_the_middle_of_counted_times() -> None:
    counts = [0] * 22
    assert median(counts) is None
    counts[3] = 4  # 0.05 to 0.1 s
    assert median(counts) == pytest.approx(0.075)
    counts[0] = 4
    assert median(counts) == pytest.approx(0.01)
    beyond = [0] * 21 + [3]
    assert median(beyond) == 60.0
