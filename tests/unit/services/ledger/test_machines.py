"""What is known of machines, over all times they were rented."""

from pathlib import Path

import pytest

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from vastproxy.services.ledger.machines import Machine, Rental, machines, median
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
    assert first.machine_id == 7001
    assert first.rentals == (Rental("1@100", HOUR, HOUR + 3600), Rental("5@200", HOUR + 7200, HOUR + 9000))
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
    assert not twice.rented_before("1@100"), "the other one came later"
    assert twice.knows("5@200")
    assert not twice.knows("2@100")


def together(path: Path, *, apart: int) -> Machine:
    """A machine with two instances for ten minutes each, so many seconds from one's beginning to the other's."""
    for number, start in enumerate((HOUR, HOUR + apart)):
        book = busy_book(make_rented(number, machine_id=7, identity=f"{number}@1"), seconds=600, start=start)
        write_ledger(path, book, until=start + 600, writer=f"w{number}")
    (machine,) = known(path)
    return machine


@pytest.mark.parametrize("apart", [0, 1, 599])
def test_what_is_rented_at_the_same_time_was_not_rented_before(tmp_path: Path, apart: int) -> None:
    machine = together(tmp_path / "l.db", apart=apart)
    assert [machine.rented_before(f"{number}@1") for number in (0, 1)] == [False, False]
    assert not machine.rented_before()
    assert machine.to_json("1@1")["rentals"] == 2


@pytest.mark.parametrize("apart", [600, 601, 86_400])
def test_what_was_over_when_the_next_began_was_rented_before(tmp_path: Path, apart: int) -> None:
    machine = together(tmp_path / "l.db", apart=apart)
    assert [machine.rented_before(f"{number}@1") for number in (0, 1)] == [False, True]
    assert machine.rented_before()


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
