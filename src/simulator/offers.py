"""The simulated market: a few machines for rent, searched as `POST /api/v0/bundles/` does. Pure."""

from collections.abc import Callable
from typing import Any

from vastproxy.simulator.catalog import GPUS
from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.payloads import JsonObject, offer_row
from vastproxy.simulator.query import OPERATORS, holds

FIRST_OFFER = 5551

#: Names in a search body that are not filters.
_OPTIONS = frozenset({"order", "type", "limit", "allocated_storage", "q", "select_cols", "disable_bundling"})


class Market:
    """The offers that nobody has taken yet."""

    def __init__(self, clock: Callable[[], float]) -> None:
        now = clock()
        kinds = [(gpu, count) for gpu in GPUS for count in (1, 2, 8)]
        self._offers = {
            FIRST_OFFER + i: offer_row(FIRST_OFFER + i, gpu=gpu, num_gpus=count, verified=i % 5 != 4, now=now)
            for i, (gpu, count) in enumerate(kinds)
        }

    def __len__(self) -> int:
        return len(self._offers)

    def gpu_names(self) -> list[str]:
        return sorted(GPUS)

    def search(self, body: JsonObject) -> list[JsonObject]:
        """Offers that match, in the wanted order. Raises Refusal (400) for an unknown operator."""
        filters = {name: value for name, value in body.items() if name not in _OPTIONS}
        for name, conditions in filters.items():
            if not isinstance(conditions, dict) or not set(conditions) <= set(OPERATORS):
                raise invalid_args(f"unknown operator for {name}")
        found = [row for row in self._offers.values() if _fits(row, filters)]
        for entry in reversed(body.get("order") or []):
            column, direction = entry[0], entry[1]
            found.sort(key=lambda row: row.get(column) or 0, reverse=direction == "desc")
        limit = body.get("limit")
        found = found[:limit] if isinstance(limit, int) and limit > 0 else found
        bid = body.get("type") == "bid"
        return [dict(row, is_bid=bid, dph_base=row["min_bid"] if bid else row["dph_base"]) for row in found]

    def take(self, offer_id: int) -> JsonObject:
        """Rent one. Raises Refusal (410) when it is gone."""
        try:
            return self._offers.pop(offer_id)
        except KeyError:
            message = f"error 410/3907: no_such_ask Instance type {offer_id} is no longer available."
            raise Refusal(410, "no_such_ask", message, ask_id=offer_id) from None


def _fits(row: JsonObject, filters: JsonObject) -> bool:
    return all(
        holds(_value(row, name), operator, wanted)
        for name, conditions in filters.items()
        for operator, wanted in conditions.items()
    )


def _value(row: JsonObject, name: str) -> Any:
    """What a filter's name looks at: some names are not those of the columns."""
    if name == "verified":
        return row["verification"] == "verified"
    if name == "external":
        return bool(row["external"])
    if name == "geolocation":
        return row["country_code"]
    return row.get(name)
