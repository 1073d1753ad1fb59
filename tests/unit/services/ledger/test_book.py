"""Between two writings: seconds are idle or busy, requests add up, clocks that jump count nothing twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented
from vastproxy.services.ledger import book as book_module
from vastproxy.services.ledger.batch import TTFT_BOUNDS, Batch
from vastproxy.services.ledger.book import Book
from vastproxy.services.ledger.totals import MAX_MODELS, OTHER, Totals


def closed(book: Book) -> Batch:
    batch = book.close(HOUR + 3599)
    assert batch is not None
    return batch


def seconds(book: Book) -> tuple[int, int]:
    """Seen, and busy."""
    rent = closed(book).rent
    return sum(one.seen.bit_count() for one in rent), sum(one.busy.bit_count() for one in rent)


def watched() -> Book:
    book = Book()
    book.rented = {1: make_rented()}
    book.tick(HOUR, 0.0, ())
    return book


def test_nothing_noted_is_nothing_to_write() -> None:
    assert Book().close(HOUR) is None
    assert watched().close(HOUR) is None


def test_batches_are_numbered() -> None:
    book = busy_book()
    assert closed(book).number == 1
    book.entries.append(make_entry())
    book.digest(HOUR)
    assert closed(book).number == 2
    assert book.close(HOUR) is None


def test_a_second_is_busy_with_something_in_flight_at_its_beginning_or_end() -> None:
    book = watched()
    for second, busy in enumerate([(), (1,), (1,), (), (), ()], start=1):
        book.tick(HOUR + second, 1.0, busy)
    (rent,) = closed(book).rent
    assert rent.seen == 0b111111
    assert rent.busy == 0b001110
    assert (rent.machine_id, rent.identity, rent.gpu) == (7001, "1@100", "1x RTX 4090")


def test_a_second_is_busy_with_a_request_that_ended_in_it() -> None:
    book = watched()
    book.entries.append(make_entry())
    book.tick(HOUR + 1, 1.0, ())
    book.digest(HOUR + 1)
    book.tick(HOUR + 2, 1.0, ())
    book.tick(HOUR + 3, 1.0, ())
    assert closed(book).rent[0].busy == 0b010


def test_a_new_price_begins_a_new_line() -> None:
    book = watched()
    book.tick(HOUR + 1, 1.0, ())
    book.rented = {1: make_rented(dollars_per_hour=3.6)}
    book.tick(HOUR + 2, 1.0, ())
    assert [(one.dollars_per_hour, one.seen) for one in closed(book).rent] == [(0.36, 0b1), (3.6, 0b10)]


def test_an_hour_ends() -> None:
    book = Book()
    book.rented = {1: make_rented()}
    book.tick(HOUR - 2, 0.0, ())
    book.tick(HOUR + 3, 5.0, ())
    assert [(one.hour, one.seen.bit_count()) for one in closed(book).rent] == [(HOUR - 3600, 2), (HOUR, 3)]


def test_a_clock_that_is_set_forward_adds_no_rent() -> None:
    book = watched()
    book.tick(HOUR + 3000, 1.0, ())
    book.tick(HOUR + 3001, 1.0, ())
    assert seconds(book) == (2, 0)


def test_a_clock_that_is_set_back_adds_no_second_twice() -> None:
    book = watched()
    book.tick(HOUR + 10, 10.0, ())
    book.tick(HOUR + 5, 1.0, ())
    book.tick(HOUR + 12, 7.0, ())
    assert seconds(book) == (12, 0)


def test_a_loop_that_was_held_up_forgets_nothing() -> None:
    """The proxy was stopped for a while, and the rent went on."""
    book = watched()
    book.tick(HOUR + 300, 300.0, ())
    assert seconds(book) == (300, 0)


@given(st.lists(st.tuples(st.floats(0, 5), st.sets(st.integers(1, 3))), max_size=30))
def test_idle_and_busy_are_all_there_is(steps: list[tuple[float, set[int]]]) -> None:
    """Each second that passes is seen once for each instance, and the dollars are those of the seconds."""
    book = Book()
    book.rented = {id: make_rented(id, dollars_per_hour=3600.0 * id) for id in (1, 2, 3)}
    now = float(HOUR)
    book.tick(now, 0.0, ())
    for step_s, busy in steps:
        now += step_s
        book.tick(now, step_s, busy)
    passed = int(now) - HOUR
    batch = book.close(now)
    rent = () if batch is None else batch.rent
    for id in (1, 2, 3):
        assert sum(one.seen.bit_count() for one in rent if one.instance_id == id) == passed
    assert all(one.busy & ~one.seen == 0 for one in rent)
    busy_dollars = sum(one.busy.bit_count() * one.instance_id for one in rent)
    assert book.totals.busy_dollars == pytest.approx(busy_dollars)
    assert book.totals.busy_dollars + book.totals.idle_dollars == pytest.approx(passed * 6)


def test_requests_add_up_by_instance_model_and_key() -> None:
    entries = (
        make_entry(),
        make_entry(tokens=(None, None)),
        make_entry(status=502, error="backend_interrupted"),
        make_entry(model=None, key=None, status=499),
        make_entry(2),
    )
    book = busy_book(make_rented(dollars_per_byte_in=1e-3, dollars_per_byte_out=1e-4), entries=entries)
    served = {(one.instance_id, one.model, one.key): one for one in closed(book).served}
    assert set(served) == {(1, "m", "web"), (1, "", ""), (2, "m", "web")}
    one = served[1, "m", "web"]
    assert (one.requests, one.errors, one.tokens_in, one.tokens_out) == (3, 1, 120, 61)
    assert (one.estimated_tokens, one.received_bytes, one.sent_bytes) == (121, 1200, 12_000)
    assert one.bandwidth_dollars == pytest.approx(1.2 + 1.2)
    assert served[1, "", ""].errors == 0
    assert served[2, "m", "web"].bandwidth_dollars == 0.0
    assert book.totals.models["m"].prompt == 130
    assert book.totals.bandwidth_dollars == pytest.approx(3.2)


def test_entries_are_taken_in_slices() -> None:
    book = watched()
    book.entries.extend([make_entry()] * 5)
    note = book.entries.append
    book.digest(HOUR, most=2)
    note(make_entry())
    assert len(book.entries) == 4
    book.digest(HOUR)
    assert closed(book).served[0].requests == 6


def test_entries_that_nobody_takes_do_not_pile_up() -> None:
    book = watched()
    for _ in range(book_module.MAX_ENTRIES + 5):
        book.entries.append(make_entry())
    assert len(book.entries) == book_module.MAX_ENTRIES


def test_what_is_had_with_a_machine() -> None:
    entries = (
        make_entry(ttft_s=0.12, took_s=2.12),
        make_entry(ttft_s=99.0, took_s=100.0, tokens=(None, None)),
        make_entry(streamed=False),
        make_entry(status=500),
        make_entry(status=502, error="backend_unreachable"),
        make_entry(status=404),
        make_entry(tokens=(3, 1)),
    )
    book = busy_book(entries=entries)
    book.way_lost(1)
    book.way_lost(99)
    book.failed({1: 3, 99: 5})
    book.failed({1: 4})
    (had,) = closed(book).machines
    assert (had.machine_id, had.requests, had.drops) == (7001, 7, 1)
    assert had.errors == 1 + 4
    assert had.tokens == 19 + 20
    assert had.seconds == pytest.approx(3.0)
    assert sum(had.ttft) == 3
    assert had.ttft[-1] == 1
    assert len(had.ttft) == len(TTFT_BOUNDS) + 1


def test_a_backend_that_counts_anew_has_failed_as_often_as_it_says() -> None:
    book = busy_book()
    book.failed({1: 5})
    book.failed({})
    book.failed({1: 2})
    (had,) = closed(book).machines
    assert had.errors == 7


def test_ways_to_an_instance_that_does_not_run_are_not_lost() -> None:
    book = busy_book(make_rented(is_running=False), make_rented(2, machine_id=None))
    book.way_lost(1)
    book.way_lost(2)
    assert closed(book).machines == ()


def test_there_is_room_for_so_many_cells() -> None:
    book = watched()
    most = book_module.MAX_CELLS
    book._served = {(0, 0, str(number), ""): None for number in range(most)}  # type: ignore[misc]
    book.entries.append(make_entry())
    book.digest(HOUR)
    assert book.lost == 1


def test_so_many_models_are_told_apart() -> None:
    totals = Totals()
    for number in range(MAX_MODELS + 10):
        totals.request(f"m{number}", 1, 2, 0, 0.0)
    assert len(totals.models) == MAX_MODELS + 1
    assert totals.models[OTHER].prompt == 10
