"""Since when: as people and programs write it."""

import pytest

from vastproxy.services.ledger.since import since_of

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("24h", NOW - 86_400),
        (" 90min ", NOW - 5400),
        ("90m", NOW - 5400),
        ("7d", NOW - 7 * 86_400),
        ("2w", NOW - 14 * 86_400),
        ("1.5h", NOW - 5400),
        ("30 s", NOW - 30),
        ("all", 0.0),
        ("1799990000", 1_799_990_000.0),
        ("1799990000.5", 1_799_990_000.5),
        ("999999w", 0.0),
    ],
)
def test_understood(text: str, since: float) -> None:
    assert since_of(text, NOW) == since


@pytest.mark.parametrize("text", ["", "h", "24", "-1h", "yesterday", "1e3h", "٣h", "1h2", "9" * 40])
def test_refused(text: str) -> None:
    assert since_of(text, NOW) is None
