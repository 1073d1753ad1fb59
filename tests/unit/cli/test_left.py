"""How long an instance is ours, as people read it: in a word, and as a warning where one is due."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Answers, Peer, Run
from tests.unit.cli.test_instances import RUNNING, account, environ
from vastproxy.cli import left
from vastproxy.cli.render import duration

StartPeer = Callable[[Answers], Peer]
NOW = 1_790_000_000.0


def told(**over: Any) -> dict[str, Any]:
    return {
        "ends_unix": NOW + 7200,
        "contract_s": 7200.0,
        "credit_s": None,
        "left_s": 7200.0,
        "because": "contract",
        "outbid_risk": "none",
        "price_rise": None,
        "drains_in_s": 6600.0,
        "draining": False,
        **over,
    }


def lines(row: object) -> list[tuple[str, str]]:
    return list(left.notes(row, shown=duration, clock=lambda: NOW))


@pytest.mark.parametrize(
    ("seconds", "word"),
    [
        (None, "-"),
        (0.0, "0 s"),
        (59.0, "59 s"),
        (90.0, "2 min"),
        (7200.0, "2 h"),
        (86_400.0, "1 d"),
        (30 * 86_400.0, "30 d"),
        ("soon", "-"),
        (True, "-"),
    ],
)
def test_in_a_word(seconds: object, word: str) -> None:
    assert left.brief(told(contract_s=seconds)) == word
    assert left.brief(seconds) == "-"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (told(), [("contract ends in 2 h", "yellow")]),
        (told(contract_s=90_000.0), []),
        (told(contract_s=1800.0), [("contract ends in 30 min", "red")]),
        (
            told(contract_s=300.0, draining=True),
            [("contract ends in 5 min, gets no new requests", "red")],
        ),
        (told(contract_s=None, ends_unix=NOW - 3600), [("contract ended 1 h ago", "red")]),
        (told(contract_s=None, ends_unix=None), []),
        (told(contract_s=None, ends_unix=None, outbid_risk="low"), []),
        (
            told(contract_s=None, ends_unix=None, outbid_risk="high"),
            [("others bid more: it may be stopped", "yellow")],
        ),
        (
            told(
                contract_s=90_000.0, price_rise={"old_dollars_per_hour": 0.36, "new_dollars_per_hour": 0.45}
            ),
            [("its host asks for more from $0.360 to $0.450/h after the contract; not answered", "yellow")],
        ),
        (
            told(contract_s=90_000.0, price_rise={"new_dollars_per_hour": 0.45}),
            [("its host asks for more to $0.450/h after the contract; not answered", "yellow")],
        ),
        (
            told(contract_s=90_000.0, price_rise={}),
            [("its host asks for more after the contract; not answered", "yellow")],
        ),
        (None, []),
        ("x", []),
        ({"contract_s": "x", "ends_unix": True, "price_rise": 7}, []),
    ],
)
def test_what_is_worth_a_line(row: object, expected: list[tuple[str, str]]) -> None:
    assert lines(row) == expected


def test_instances_say_how_long_they_are_ours(run: Run, peer: StartPeer) -> None:
    """In a column that fits, and as JSON; with the credit and the price rises that this key may read."""
    instance = {**RUNNING, "end_date": 4_000_000_000.0, "is_bid": True, "min_bid": 9.0, "dph_base": 8.0}
    rise = {"pending_price_increase_id": 1, "contract_id": 101, "new_gpu_costpersec": 0.001}
    answers = account(instance) | {
        "/api/v0/users/current": (200, {"id": 7, "credit": 25.0}),
        "/api/v0/instances/pending-price-increases/": (200, {"pending_price_increases": [rise]}),
    }
    vast = peer(answers)
    result = run("instances", **environ(vast))
    assert max(map(len, result.output.splitlines())) <= 80
    assert "Left" in result.output
    words = " ".join(result.output.split())
    assert "others bid more" in words
    assert "its host asks" in words
    assert "/api/v0/users/current" in [path for path, _ in vast.seen]
    shown = run("instances", "--json", **environ(vast)).output
    assert '"outbid_risk": "high"' in shown
    assert '"because": "credit"' in shown
    assert '"credit_s": 7200.0' in shown
    assert '"new_dollars_per_hour": 28.8' in shown


@pytest.mark.parametrize("status", [403, 500])
def test_an_account_that_tells_nothing_of_its_money_is_listed_all_the_same(
    run: Run, peer: StartPeer, status: int
) -> None:
    refused = {"success": False, "error": "auth_error", "msg": "no"}
    vast = peer(account(RUNNING) | {"/api/v0/users/current": (status, refused)})
    result = run("instances", "--json", **environ(vast))
    assert result.exit_code == 0
    assert '"credit_s": null' in result.output
    assert [path for path, _ in vast.seen].count("/api/v0/users/current") == 1
