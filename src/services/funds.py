"""What an account has, what it costs, and for how long that lasts, as plain values. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vastproxy.vastai.types import PriceRise


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """The account now. `credit_dollars`: None where it is not known, for example because the key may not read it.
    `dollars_per_hour`: what all its instances cost, also those that are stopped or not served; None before the first
    list. `hours_left`: how long the credit lasts at that; None where either is not known, or nothing costs anything.
    These are rounded for people. `lasts_s`: the same in seconds, less the time since it was read. `price_rises`: those
    that nobody has answered, by instance id."""

    credit_dollars: float | None
    dollars_per_hour: float | None
    hours_left: float | None
    lasts_s: float | None = None
    price_rises: Mapping[int, PriceRise] = field(default_factory=lambda: MappingProxyType({}), hash=False)


def snapshot_of(
    credit_dollars: float | None,
    dollars_per_hour: float | None,
    *,
    age_s: float = 0.0,
    price_rises: Iterable[PriceRise] = (),
) -> AccountSnapshot:
    """The figures, for a credit that was read `age_s` seconds ago. Pure."""
    lasts_s = None
    if credit_dollars is not None and dollars_per_hour is not None and dollars_per_hour > 0:
        lasts_s = max(credit_dollars, 0.0) / dollars_per_hour * 3600.0
    return AccountSnapshot(
        None if credit_dollars is None else round(credit_dollars, 2),
        None if dollars_per_hour is None else round(dollars_per_hour, 4),
        None if lasts_s is None else round(lasts_s / 3600.0, 1),
        None if lasts_s is None else max(lasts_s - max(age_s, 0.0), 0.0),
        MappingProxyType({rise.instance_id: rise for rise in price_rises}),
    )
