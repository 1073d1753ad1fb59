"""Machines that were rented before are named where instances are listed."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from vastproxy.cli.remembered import remembered, rented_before, row_of
from vastproxy.settings import load


def test_what_the_ledger_remembers(workplace: Path) -> None:
    path = workplace / ".local/state/vastproxy/ledger.db"
    entries = tuple(make_entry() for _ in range(30))
    write_ledger(path, busy_book(make_rented(), seconds=3600, entries=entries), until=HOUR + 3600)
    known = remembered(load())
    again, same = row_of(known, 7001, "another@1"), row_of(known, 7001, "1@100")
    assert rented_before(again) == "rented before, 1 h, score 1.00"
    assert same is not None
    assert rented_before(same) == ""
    assert row_of(known, 99, "x") is None
    assert row_of(known, None, "x") is None


@pytest.mark.parametrize("content", [None, b"", b"nothing" * 1000])
def test_no_ledger_is_no_reason_to_fail(workplace: Path, content: bytes | None) -> None:
    path = workplace / ".local/state/vastproxy/ledger.db"
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    assert remembered(load()) == {}


def test_where_no_ledger_is_kept(workplace: Path) -> None:
    assert remembered(load(overrides={"ledger.enabled": False})) == {}


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"rented_before": False, "hours": 3}, ""),
        ({"rented_before": True, "hours": 12.345, "score": 0.876}, "rented before, 12.3 h, score 0.88"),
        ({"rented_before": True, "hours": None, "score": None}, "rented before"),
        ({"rented_before": True, "hours": "\x1b", "score": "x"}, "rented before"),
    ],
)
def test_in_some_words(machine: Any, words: str) -> None:
    assert rented_before(machine) == words
