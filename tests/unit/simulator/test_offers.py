"""Searching and taking offers."""

import pytest

from vastproxy.simulator.errors import Refusal
from vastproxy.simulator.offers import Market

#: What the official CLI 1.9.1 sends by default.
DEFAULTS = {"verified": {"eq": True}, "external": {"eq": False}, "rentable": {"eq": True}}


@pytest.fixture
def market() -> Market:
    return Market(lambda: 0.0)


def test_default_filters_hide_what_is_unverified(market: Market) -> None:
    found = market.search(dict(DEFAULTS))
    assert 0 < len(found) < len(market)
    assert {row["verification"] for row in found} == {"verified"}


def test_the_searches_of_the_official_cli(market: Market) -> None:
    """Numbers come as texts, places as countries, and `order` and `limit` are not filters."""
    found = market.search(
        {
            **DEFAULTS,
            "gpu_name": {"eq": "RTX 4090"},
            "num_gpus": {"gte": "2"},
            "gpu_ram": {"gte": 24000.0},
            "reliability": {"gt": "0.98"},
            "geolocation": {"in": ["CA", "US", "SE", "CZ", "TW"]},
            "order": [["dph_total", "desc"]],
            "type": "on-demand",
            "limit": 2,
            "allocated_storage": 5.0,
        }
    )
    assert [row["num_gpus"] for row in found] == [8, 2]
    assert not any(row["is_bid"] for row in found)


def test_bids_are_priced_at_the_lowest_winning_one(market: Market) -> None:
    offer = market.search({"type": "bid", "limit": 1})[0]
    assert offer["is_bid"] is True
    assert offer["dph_base"] == offer["min_bid"]


def test_unknown_operators_are_refused(market: Market) -> None:
    with pytest.raises(Refusal):
        market.search({"gpu_name": {"like": "RTX"}})


def test_a_taken_offer_is_gone(market: Market) -> None:
    first = market.search({})[0]["id"]
    assert market.take(first)["id"] == first
    with pytest.raises(Refusal) as refusal:
        market.take(first)
    assert refusal.value.http_status == 410
    assert refusal.value.body["ask_id"] == first
    assert market.gpu_names() == sorted(market.gpu_names())
