"""What a presented host key means, and the stored form of the pins."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.pins import (
    Pin,
    PinBook,
    Refused,
    Sibling,
    UnreadablePins,
    Verdict,
    is_predecessor,
    load_pins,
)

identities = st.from_regex(r"[1-9][0-9]{0,8}@[0-9]{1,10}", fullmatch=True) | st.text(max_size=20)
places = st.tuples(identities, st.sampled_from(Path))
keys, times = st.text(max_size=40), st.integers(0, 2**40)
books = st.builds(
    PinBook,
    st.dictionaries(places, st.builds(Pin, keys, times), max_size=8),
    st.dictionaries(places, st.builds(Refused, keys, keys, times, times), max_size=8),
)


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


def test_an_instance_takes_the_place_of_its_earlier_lives_and_of_no_other_instance() -> None:
    book = PinBook()
    for identity in ("7@1", "7@2", "7", "7@3", "77@1", "17@1"):
        book = book.with_pin(identity, Path.DIRECT, "k", now=0).with_pin(identity, Path.RELAY, "r", now=0)
    rest = book.without_predecessors("7@2")
    assert {identity for identity, _ in rest.pins} == {"7@2", "7@3", "77@1", "17@1"}


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
    assert set(merged.refused) == set(one.refused) | set(other.refused)


@given(books, books)
def test_news_are_what_brings_the_older_book_up_to_date(one: PinBook, other: PinBook) -> None:
    """And what two books have in common is news to neither."""
    newer = one.merged(other)
    assert one.merged(newer.news(one)) == newer
    common = one.common(other)
    assert common.news(one) == common.news(other) == PinBook()


@given(books, st.sampled_from(["7@1", "7@2", "8@1"]), st.sampled_from(Path), st.integers(0, 2**40))
def test_a_pin_settles_what_was_refused_in_its_place_and_nothing_else(
    book: PinBook, identity: str, path: Path, now: int
) -> None:
    refusing = book.with_pin(identity, path, "A", now=now).with_refused(
        identity, path, "B", address="h:1", now=now
    )
    assert refusing.refused[identity, path].key == "B"
    settled = refusing.with_pin(identity, path, "B", now=now)
    assert set(settled.refused) == set(refusing.refused) - {(identity, path)}
    assert settled.with_refused(identity, path, "B", address="h:1", now=now) is settled, "it is accepted"


def test_changes_are_told_of_the_newest_identity_first_and_the_direct_path_first() -> None:
    book = PinBook()
    for identity, path in (
        ("7@9", Path.RELAY),
        ("7@10", Path.RELAY),
        ("7@10", Path.DIRECT),
        ("70@1", Path.RELAY),
    ):
        book = book.with_pin(identity, path, "A", now=1)
        book = book.with_refused(identity, path, "B", address="h:1", now=2)
    book = book.with_refused("7@11", Path.RELAY, "B", address="h:1", now=2)
    assert [(one.identity, one.path) for one in book.changes(7)] == [
        ("7@10", Path.DIRECT),
        ("7@10", Path.RELAY),
        ("7@9", Path.RELAY),
    ], "what was refused without a pin waits for nobody"
    assert book.changes(8) == ()


def test_the_refused_keys_seen_last_are_kept() -> None:
    book = PinBook()
    for number in range(10):
        book = book.with_refused(f"{number}@0", Path.DIRECT, "B", address="h:1", now=number, limit=4)
    assert sorted(identity for identity, _ in book.refused) == ["6@0", "7@0", "8@0", "9@0"]


def test_a_key_refused_again_keeps_the_time_of_its_first_sight() -> None:
    first = PinBook().with_refused("7@1", Path.DIRECT, "B", address="h:1", now=100)
    assert first.with_refused("7@1", Path.DIRECT, "B", address="h:2", now=130) is first
    again = first.with_refused("7@1", Path.DIRECT, "B", address="h:2", now=200)
    assert again.refused["7@1", Path.DIRECT] == Refused("B", "h:2", 100, 200)
    other = again.with_refused("7@1", Path.DIRECT, "C", address="h:2", now=201)
    assert other.refused["7@1", Path.DIRECT] == Refused("C", "h:2", 201, 201)


@pytest.mark.parametrize(
    ("relay_pin", "relay_refused", "expected"),
    [
        (None, None, Sibling.SILENT),
        ("B", None, Sibling.AGREES),
        ("A", "B", Sibling.CHANGED_TOO),
        ("X", "B", Sibling.CHANGED_TOO),
        ("A", None, Sibling.UNCHANGED),
        ("A", "C", Sibling.DIFFERS),
        ("X", None, Sibling.DIFFERS),
    ],
)
def test_the_other_path_is_a_witness(
    relay_pin: str | None, relay_refused: str | None, expected: Sibling
) -> None:
    """The direct path has shown A and now shows B."""
    book = PinBook().with_pin("7@1", Path.DIRECT, "A", now=1)
    if relay_pin:
        book = book.with_pin("7@1", Path.RELAY, relay_pin, now=1)
    if relay_refused:
        book = book.with_refused("7@1", Path.RELAY, relay_refused, address="h:1", now=2)
    assert book.sibling("7@1", Path.DIRECT, "B") is expected


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ("7@1", "7@2", True),
        ("7@2", "7@1", False),
        ("7@9", "7@10", True),
        ("7@1", "7@1", False),
        ("7@1", "8@2", False),
        ("7", "7@2", True),
        ("7@1", "7@odd", True),
        ("7@" + "9" * 5000, "7@2", True),
    ],
)
def test_who_took_whose_place(earlier: str, later: str, expected: bool) -> None:
    assert is_predecessor(earlier, later) is expected


def test_a_text_from_before_there_were_refused_keys_is_read() -> None:
    row = '{"identity": "7@1", "path": "direct", "key": "k", "since": 3}'
    assert load_pins(f'{{"version": 1, "pins": [{row}]}}') == PinBook({("7@1", Path.DIRECT): Pin("k", 3)})


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
        '{"version": 1, "pins": [{"identity": "7", "path": "direct", "key": 7, "since": 0}]}',
        '{"version": 1, "pins": [], "refused": [{"identity": "7", "path": "direct", "key": "k"}]}',
        '{"version": 1, "pins": [], "refused": [{"identity": "7", "path": "direct", "key": "k", "address": 1, '
        '"since": 0, "seen": 0}]}',
        '{"version": 1, "pins": [], "refused": [{"identity": "7", "path": "direct", "key": "k", "address": "h", '
        '"since": "x", "seen": 0}]}',
        "[" * 100_000,
    ],
)
def test_unreadable_examples(text: str) -> None:
    with pytest.raises(UnreadablePins):
        load_pins(text)
