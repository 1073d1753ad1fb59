"""docs/HTTP.md names every case of the corpus, and nothing that does not exist."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.corpus.document import cases, with_tables, write_up

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/HTTP.md"
#: The tables that are written by hand.
TEXT = PAGE.read_text().partition("## Request smuggling")[0]
QUOTED = re.findall(r"`([^`\s]+)`", TEXT)
PATTERNS = [quoted for quoted in QUOTED if quoted.startswith(("requests/", "answers/")) and "…" not in quoted]
TESTS = [quoted for quoted in QUOTED if quoted.startswith("tests/")]


def test_the_generated_tables_are_those_of_the_corpus() -> None:
    text = PAGE.read_text()
    assert with_tables(text) == text, "run `make docs`"


def test_a_page_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_tables("# nothing here")


def test_every_case_stands_in_a_table() -> None:
    missing = [name for name in cases() if not any(fnmatchcase(name, pattern) for pattern in PATTERNS)]
    assert not missing


def test_every_name_in_the_tables_is_a_case_or_a_test() -> None:
    nothing = [pattern for pattern in PATTERNS if not any(fnmatchcase(name, pattern) for name in cases())]
    assert not nothing
    assert TESTS
    assert not [test for test in TESTS if not (ROOT / test).is_file()]


def test_write_ups_are_told_from_standards() -> None:
    assert (
        write_up("CL.0: Kettle, Browser-Powered Desync Attacks, 2022")
        == "Kettle, Browser-Powered Desync Attacks, 2022"
    )
    assert write_up("RFC 9112 §7.1.1: 2024") == ""
    assert write_up("int() of Python takes it") == ""
