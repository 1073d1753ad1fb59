"""The book of keys: what goes in comes out, and what is not understood is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.access.apikey import make_key
from vastproxy.services.access.records import (
    MAX_KEYS,
    KeyBook,
    KeyBookError,
    KeyLimits,
    KeyRecord,
    Right,
    UnreadableKeys,
    load_book,
)

INFERENCE = frozenset({Right.INFERENCE})

limits = st.builds(
    KeyLimits,
    requests_per_min=st.none() | st.integers(1, 10**9),
    concurrent=st.none() | st.integers(1, 10**5),
    tokens_per_min=st.none() | st.integers(1, 10**12),
    models=st.lists(st.text("abc*?[]-/", min_size=1, max_size=9), max_size=3).map(tuple),
    priority=st.sampled_from(["interactive", "batch"]),
)


def add(book: KeyBook, name: str, **options: Any) -> tuple[KeyBook, KeyRecord, str]:
    return book.create(name, **{"rights": INFERENCE, "limits": KeyLimits(), "now": 1e9, **options})


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-z][a-z0-9._@-]{0,20}", fullmatch=True),
            limits,
            st.sets(st.sampled_from(Right), min_size=1),
            st.none() | st.floats(0, 4e9),
        ),
        max_size=5,
        unique_by=lambda each: each[0],
    )
)
def test_a_book_is_read_as_it_was_written(
    keys: list[tuple[str, KeyLimits, set[Right], float | None]],
) -> None:
    book = KeyBook()
    for name, limit, rights, expires_at in keys:
        if name.startswith("env-"):
            continue
        book, record, key = add(
            book, name, limits=limit, rights=frozenset(rights), now=1e9 + 0.25, expires_at=expires_at
        )
        assert book.find(key) is record
        assert book.find(record.prefix) is record
    text = book.dump()
    assert load_book(text) == book
    assert load_book(text).dump() == text


def test_neither_key_nor_digest_is_shown() -> None:
    book, record, key = add(KeyBook(), "web")
    assert key not in book.dump()
    assert record.sha256 in book.dump()
    assert record.sha256 not in repr(book) + repr(record) + str(record)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\nb", "a/b", "ä", "env-1", "<b>"])
def test_a_name_must_do_for_logs(name: str) -> None:
    with pytest.raises(KeyBookError):
        add(KeyBook(), name)


def test_a_name_is_given_once() -> None:
    book, _, _ = add(KeyBook(), "web")
    with pytest.raises(KeyBookError, match="there is a key called web already"):
        add(book, "web")


def test_no_two_keys_begin_alike() -> None:
    """Whoever revokes one by its beginning revokes that one."""
    book, first, key = add(KeyBook(), "a")
    made = iter([key, make_key()])
    book, second, _ = add(book, "b", make=lambda: next(made))
    assert first.prefix != second.prefix


def test_a_full_book_takes_no_more() -> None:
    _, record, _ = add(KeyBook(), "a")
    full = KeyBook.model_construct(keys=(record,) * MAX_KEYS)
    with pytest.raises(KeyBookError, match="revoke one first"):
        add(full, "b")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (lambda key: "nobody", "no key called 'nobody'"),
        (lambda key: "", "no key called"),
        (lambda key: key[:9] + "x" * 43, "cut or mistyped"),
        (lambda key: key[:-1], "cut or mistyped"),
        (lambda key: make_key(), "not among the keys"),
    ],
)
def test_what_is_not_there_is_an_error_that_repeats_no_key(wanted: Callable[[str], str], why: str) -> None:
    book, _, key = add(KeyBook(), "web")
    sought = wanted(key)
    with pytest.raises(KeyBookError, match=why) as caught:
        book.find(sought)
    assert len(sought) < 10 or sought not in str(caught.value)


def test_a_name_may_look_like_a_key() -> None:
    book, record, _ = add(KeyBook(), "vp-abcdefghij")
    assert book.find("vp-abcdefghij") is record


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["keys"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (lambda document: document.update(version=2), "version"),
        (lambda document: document.update(more=1), "more"),
        (lambda document: document["keys"].append(document["keys"][0]), "the same name"),
        (change(name="a\nb"), "keys.0.name"),
        (change(name="env-3"), "keys.0.name"),
        (change(sha256="x" * 64), "keys.0.sha256"),
        (change(prefix="vp-"), "keys.0.prefix"),
        (change(rights=[]), "keys.0.rights"),
        (change(rights=["root"]), "keys.0.rights"),
        (change(created_at="yesterday"), "keys.0.created_at"),
        (change(limits={"requests_per_hour": 5}), "keys.0.limits.requests_per_hour"),
        (change(limits={"concurrent": 0}), "keys.0.limits.concurrent"),
        (change(limits={"models": [""]}), "keys.0.limits.models.0"),
    ],
)
def test_what_is_not_understood_is_refused_and_named(
    edit: Callable[[dict[str, Any]], None], where: str
) -> None:
    """A limit with a name that is not known must not be taken for no limit."""
    book, _, _ = add(KeyBook(), "web")
    document = json.loads(book.dump())
    edit(document)
    with pytest.raises(UnreadableKeys, match=where) as caught:
        load_book(json.dumps(document))
    assert "\n" not in str(caught.value)
    assert document["keys"][0]["sha256"] not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_in_a_file_is_a_book_or_one_line(content: bytes) -> None:
    try:
        load_book(content)
    except UnreadableKeys as error:
        assert str(error).splitlines() == [str(error)]  # noqa: PT017


def test_times_may_be_written_with_or_without_a_zone() -> None:
    book, record, _ = add(KeyBook(), "web", expires_at=2e9)
    document = json.loads(book.dump())
    assert document["keys"][0]["expires_at"] == "2033-05-18T03:33:20Z"
    document["keys"][0]["expires_at"] = "2033-05-18T05:33:20+02:00"
    assert load_book(json.dumps(document)) == book
    document["keys"][0]["expires_at"] = "2033-05-18 03:33:20"
    assert load_book(json.dumps(document)) == book
    assert not record.is_expired(1_999_999_999)
    assert record.is_expired(2e9)
