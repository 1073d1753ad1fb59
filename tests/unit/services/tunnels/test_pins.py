"""What a presented host key means, and the stored form of the pins."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.pins import Pin, PinBook, UnreadablePins, Verdict, load_pins

identities = st.from_regex(r"[1-9][0-9]{0,8}@[0-9]{1,10}", fullmatch=True) | st.text(max_size=20)
books = st.dictionaries(
    st.tuples(identities, st.sampled_from(Path)),
    st.builds(Pin, st.text(max_size=40), st.integers(0, 2**40)),
    max_size=8,
).map(PinBook)


def test_the_first_key_is_new_then_it_is_the_same_and_another_one_is_a_change() -> None:
    empty = PinBook()
    assert empty.check("7@1", Path.DIRECT, "ssh-ed25519 A") is Verdict.NEW
    book = empty.with_pin("7@1", Path.DIRECT, "ssh-ed25519 A", now=1.5)
    assert book.check("7@1", Path.DIRECT, "ssh-ed25519 A") is Verdict.SAME
    assert book.check("7@1", Path.DIRECT, "ssh-ed25519 B") is Verdict.CHANGED
    assert empty.pinned("7@1", Path.DIRECT) is None, "a book is a value"


def test_relay_and_direct_path_and_each_identity_have_pins_of_their_own() -> None:
    book = PinBook().with_pin("7@1", Path.DIRECT, "k", now=0)
    assert book.check("7@1", Path.RELAY, "other") is Verdict.NEW
    assert book.check("7@2", Path.DIRECT, "other") is Verdict.NEW


def test_forgetting_takes_all_identities_of_one_instance_and_no_other() -> None:
    book = PinBook()
    for identity in ("7@1", "7@2", "7", "77@1", "17@1"):
        book = book.with_pin(identity, Path.DIRECT, "k", now=0).with_pin(identity, Path.RELAY, "r", now=0)
    assert {identity for identity, _ in book.without(7).pins} == {"77@1", "17@1"}


def test_a_full_book_drops_its_oldest_pins_and_keeps_the_new_one() -> None:
    book = PinBook()
    for number in range(10):
        book = book.with_pin(f"{number}@0", Path.DIRECT, "k", now=number, limit=4)
    assert [identity for identity, _ in book.pins if book.pinned(identity, Path.DIRECT)] == [
        "8@0",
        "7@0",
        "6@0",
        "9@0",
    ]
    clock_went_back = book.with_pin("1@1", Path.DIRECT, "k", now=-5, limit=4)
    assert clock_went_back.pinned("1@1", Path.DIRECT) == "k"
    assert len(clock_went_back) == 4


@given(books)
def test_what_is_written_is_read_again(book: PinBook) -> None:
    assert load_pins(book.dump()) == book


@given(books, books)
def test_merging_keeps_every_pin_and_the_other_book_counts(one: PinBook, other: PinBook) -> None:
    merged = one.merged(other)
    assert set(merged.pins) == set(one.pins) | set(other.pins)
    assert all(merged.pins[at] == pin for at, pin in other.pins.items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=40)
    | json_values.map(json.dumps)
    | json_values.map(lambda pins: json.dumps({"version": 1, "pins": pins}))
)
def test_any_other_text_is_unreadable_and_nothing_else_is_raised(text: str) -> None:
    try:
        book = load_pins(text)
    except UnreadablePins:
        return
    assert book == load_pins(book.dump())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "pins": []}',
        '{"version": 1, "pins": [{"identity": 7, "path": "direct", "key": "k", "since": 0}]}',
        '{"version": 1, "pins": [{"identity": "7", "path": "tunnel", "key": "k", "since": 0}]}',
        "[" * 100_000,
    ],
)
def test_unreadable_examples(text: str) -> None:
    with pytest.raises(UnreadablePins):
        load_pins(text)
