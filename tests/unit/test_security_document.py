"""Every promise in docs/SECURITY.md has a test that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/SECURITY.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    assert re.search(rf"(?m)^ *(?:async )?def {name or 'test_'}", text)


@pytest.mark.parametrize(
    "line", [line for line in PAGE.splitlines() if line.startswith("| ") and "`tests/" not in line]
)
def test_no_promise_is_without_one(line: str) -> None:
    """Rows of the tables behind "Promises and their tests", but for their heads."""
    promises = PAGE.partition("## Promises and their tests")[2]
    assert line not in promises or line in {
        "| Promise | Test |",
        "| Threat | Bound | Test |",
        "| Bytes | Property tests |",
    }


def test_every_target_of_the_fuzzer_is_tried_without_it_too() -> None:
    assert ("tests/unit/test_fuzz_targets.py", "") in NAMED
    assert len(NAMED) > 60
