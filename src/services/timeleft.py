"""How long an instance is ours: until its contract ends, or until the account's credit is used up. Pure.

Facts (vast.ai's documentation, 2026-08): a contract past its end cannot be started again; when the credit is used up,
all instances of the account are stopped; an interruptible one is stopped as soon as somebody bids more than it pays, or
rents its GPUs on demand.
"""

from dataclasses import dataclass
from typing import Any, Literal

from vastproxy.services.funds import AccountSnapshot
from vastproxy.vastai.types import Instance, PriceRise

Because = Literal["contract", "credit"]
OutbidRisk = Literal["none", "low", "high"]


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """What is known of it; times in seconds from now, None where they are not known."""

    ends_unix: float | None
    """The end of the contract, as vast.ai tells it."""
    contract_s: float | None
    """Until then. None where that is over although the instance runs: it has been extended, or is wrong."""
    credit_s: float | None
    """How long the account's credit lasts at what all its instances cost."""
    left_s: float | None
    """The smaller of the two."""
    because: Because | None
    """Which of the two that is."""
    outbid_risk: OutbidRisk
    """`none`: not an interruptible instance. `high`: the lowest winning bid is above what it pays."""
    price_rise: PriceRise | None
    """What its host asks for a longer contract, if nobody has answered yet."""
    drains_in_s: float | None
    """Until it gets no new requests because its contract ends. None where that will not be."""
    draining: bool
    """Has that time come?"""
    gpus: int = 1
    """How many it has: a price rise is asked for each."""

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "gpus"}
        rise = self.price_rise
        return fields | {"price_rise": None if rise is None else rise.to_json(self.gpus)}


def time_left(
    instance: Instance, account: AccountSnapshot, now: float, drain_before_end_s: float
) -> TimeLeft:
    """What is left of an instance. `now`: seconds since 1970; `drain_before_end_s`: setting of the fleet, 0: never."""
    ends = instance.end_date
    contract_s = ends - now if ends is not None and ends > now else None
    credit_s = account.lasts_s
    left_s, because = _shorter(contract_s, credit_s)
    drains = contract_s is not None and drain_before_end_s > 0
    drains_in_s = max(contract_s - drain_before_end_s, 0.0) if contract_s is not None and drains else None
    return TimeLeft(
        ends_unix=ends,
        contract_s=_rounded(contract_s),
        credit_s=_rounded(credit_s),
        left_s=_rounded(left_s),
        because=because,
        outbid_risk=outbid_risk(instance),
        price_rise=account.price_rises.get(instance.id),
        drains_in_s=_rounded(drains_in_s),
        draining=drains_in_s == 0.0,
        gpus=instance.num_gpus or 1,
    )


def outbid_risk(instance: Instance) -> OutbidRisk:
    """Is the lowest winning bid above what we pay? It may be our own, so that being equal means nothing."""
    if not instance.is_bid:
        return "none"
    if instance.min_bid is None or instance.dph_base is None:
        return "low"
    return "high" if instance.min_bid > instance.dph_base else "low"


def _shorter(contract_s: float | None, credit_s: float | None) -> tuple[float | None, Because | None]:
    if contract_s is None:
        return credit_s, None if credit_s is None else "credit"
    if credit_s is None or contract_s <= credit_s:
        return contract_s, "contract"
    return credit_s, "credit"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
