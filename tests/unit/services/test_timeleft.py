"""How long an instance is ours: the contract, the credit, and what may end it sooner."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.builders import make_instance
from vastproxy.services.funds import AccountSnapshot, snapshot_of
from vastproxy.services.timeleft import outbid_risk, time_left
from vastproxy.vastai import PriceRise

NOW = 1_790_000_000.0
NOTHING_KNOWN = AccountSnapshot(None, None, None)


def lasts(seconds: float | None) -> AccountSnapshot:
    return AccountSnapshot(None, None, None, seconds)


def test_the_contract_ends_first() -> None:
    left = time_left(make_instance(end_date=NOW + 7200), lasts(9000.0), NOW, 600.0)
    assert left.to_json() == {
        "ends_unix": NOW + 7200,
        "contract_s": 7200.0,
        "credit_s": 9000.0,
        "left_s": 7200.0,
        "because": "contract",
        "outbid_risk": "none",
        "price_rise": None,
        "drains_in_s": 6600.0,
        "draining": False,
    }


def test_the_credit_ends_first_and_drains_nobody() -> None:
    left = time_left(make_instance(end_date=NOW + 7200), lasts(30.0), NOW, 600.0)
    assert (left.left_s, left.because, left.draining, left.drains_in_s) == (30.0, "credit", False, 6600.0)


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    left = time_left(make_instance(end_date=None), NOTHING_KNOWN, NOW, 600.0)
    assert (left.left_s, left.because, left.drains_in_s, left.draining) == (None, None, None, False)


def test_credit_alone_counts_where_no_contract_is_known() -> None:
    left = time_left(make_instance(end_date=None), lasts(3600.0), NOW, 600.0)
    assert (left.left_s, left.because) == (3600.0, "credit")


@pytest.mark.parametrize(
    ("left_s", "ahead_s", "drains_in_s", "draining"),
    [
        (601.0, 600.0, 1.0, False),
        (600.0, 600.0, 0.0, True),
        (5.0, 600.0, 0.0, True),
        (5.0, 0.0, None, False),
        (-5.0, 600.0, None, False),
    ],
)
def test_it_is_drained_before_its_contract_ends_unless_that_is_off_or_the_end_is_over(
    left_s: float, ahead_s: float, drains_in_s: float | None, draining: bool
) -> None:
    left = time_left(make_instance(end_date=NOW + left_s), NOTHING_KNOWN, NOW, ahead_s)
    assert (left.drains_in_s, left.draining) == (drains_in_s, draining)
    assert left.ends_unix == NOW + left_s


@pytest.mark.parametrize(
    ("row", "risk"),
    [
        ({"is_bid": False, "min_bid": 9.0, "dph_base": 0.1}, "none"),
        ({"is_bid": True, "min_bid": 0.2, "dph_base": 0.3}, "low"),
        ({"is_bid": True, "min_bid": 0.3, "dph_base": 0.3}, "low"),
        ({"is_bid": True, "min_bid": 0.31, "dph_base": 0.3}, "high"),
        ({"is_bid": True, "dph_base": 0.3}, "low"),
        ({"is_bid": True, "min_bid": 0.3, "dph_base": None}, "low"),
    ],
)
def test_who_may_be_outbid(row: dict[str, Any], risk: str) -> None:
    assert outbid_risk(make_instance(**row)) == risk


def test_a_price_rise_is_told_of_the_instance_that_it_is_for() -> None:
    rise = PriceRise(999, 48001001, 0.36, 0.45, NOW + 10, NOW + 99, NOW - 5)
    account = snapshot_of(10.0, 1.0, price_rises=[rise])
    told = time_left(make_instance(id=48001001, num_gpus=8), account, NOW, 600.0).to_json()["price_rise"]
    assert told == {
        "old_dollars_per_hour": 2.88,
        "new_dollars_per_hour": 3.6,
        "new_end_unix": NOW + 99,
        "asked_unix": NOW - 5,
    }
    assert time_left(make_instance(id=48001002), account, NOW, 600.0).price_rise is None


@given(
    st.none() | st.floats(NOW - 1e6, NOW + 1e8),
    st.none() | st.floats(0, 1e8),
    st.floats(0, 1e5),
)
def test_what_is_left_is_the_smaller_of_both(ends: float | None, credit: float | None, ahead: float) -> None:
    left = time_left(make_instance(end_date=ends), lasts(credit), NOW, ahead)
    known = [each for each in (left.contract_s, left.credit_s) if each is not None]
    assert left.left_s == (min(known) if known else None)
    assert (left.because is None) == (not known)
    assert not left.draining or left.contract_s is not None
