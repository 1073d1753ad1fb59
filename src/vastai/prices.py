"""Price rises that hosts ask for, as the API tells them: a contract goes on after its end only if the renter accepts.

Facts: vast.ai's command line 1.9.1 (`show pending-price-increases`), 2026-09. The remaining time of the present term is
billed at the old price; a rise that nobody answers lets the contract end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from vastproxy.vastai.errors import VastProtocolError
from vastproxy.vastai.parsing import as_float, as_int, as_mapping, as_rows

_S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class PriceRise:
    """A rise that waits for the renter's answer. Prices are those of one GPU, in dollars per hour, None where they do
    not change or are not told; times are in seconds since 1970."""

    id: int
    """What `vastai accept price-increase` resolves an instance to."""
    instance_id: int
    old_dollars_per_hour: float | None = None
    new_dollars_per_hour: float | None = None
    contract_end: float | None = None
    """Of the present term."""
    new_end: float | None = None
    """Of the contract, if the rise is accepted."""
    asked_at: float | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The rise in a row, None if it names no instance. Never raises for any JSON."""
        number, instance_id = as_int(row.get("pending_price_increase_id")), as_int(row.get("contract_id"))
        if number is None or instance_id is None:
            return None
        return cls(
            id=number,
            instance_id=instance_id,
            old_dollars_per_hour=_hourly(row.get("old_gpu_costpersec")),
            new_dollars_per_hour=_hourly(row.get("new_gpu_costpersec")),
            contract_end=as_float(row.get("contract_end_date")),
            new_end=as_float(row.get("ask_end_date")),
            asked_at=as_float(row.get("created_at")),
        )

    def to_json(self, gpus: int = 1) -> dict[str, Any]:
        """What is told of it beside the instance, which has so many GPUs: prices are those of all of them."""
        return {
            "old_dollars_per_hour": _times(self.old_dollars_per_hour, gpus),
            "new_dollars_per_hour": _times(self.new_dollars_per_hour, gpus),
            "new_end_unix": self.new_end,
            "asked_unix": self.asked_at,
        }


def rises_of(answer: object) -> tuple[PriceRise, ...]:
    """Price rises from the API's answer. Raises VastProtocolError if it has no list of them."""
    rows = as_mapping(answer).get("pending_price_increases")
    if not isinstance(rows, list):
        raise VastProtocolError(
            "the answer of vast.ai has no list of price rises while listing price rises", "no_list"
        )
    parsed = (PriceRise.from_json(row) for row in as_rows(rows))
    return tuple(rise for rise in parsed if rise is not None)


def _times(price: float | None, gpus: int) -> float | None:
    return None if price is None else round(price * gpus, 6)


def _hourly(per_second: object) -> float | None:
    value = as_float(per_second)
    return None if value is None else round(value * _S_PER_HOUR, 6)
