"""How long instances are ours, for people: in a word, and what is worth a warning."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from vastproxy.services.funds import AccountSnapshot, snapshot_of
from vastproxy.settings.model import RetrySettings
from vastproxy.vastai import Instance, PriceRise, VastClient, VastConfig, VastError

#: A contract that ends sooner is worth a line of its own.
SOON_S = 24 * 3600.0
#: And sooner than this, one in red.
AT_ONCE_S = 3600.0
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def account_of(config: VastConfig, listed: Iterable[Instance]) -> AccountSnapshot:
    """The account's credit and price rises, as far as vast.ai tells them to this key; each is asked for once."""
    brief = replace(config, retries=RetrySettings(attempts=1))
    credit: float | None = None
    rises: tuple[PriceRise, ...] = ()
    with VastClient(brief) as client:
        try:
            credit = client.current_user().credit
            rises = client.price_rises()
        except VastError:
            pass  # not every key may read the account, and not every API knows of price rises
    return snapshot_of(credit, sum(one.hourly_cost or 0.0 for one in listed), price_rises=rises)


def brief(told: object) -> str:
    """What is left of the contract in one word, such as `3 d`; `-` where that is not known."""
    seconds = _number(told, "contract_s")
    if seconds is None:
        return "-"
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), _UNITS[-1])
    return f"{seconds / size:.0f} {unit}"


def notes(
    told: object, *, shown: Callable[[float], str], clock: Callable[[], float] = time.time
) -> Iterator[tuple[str, str]]:
    """What is worth a line, each with its colour. `shown` puts a length of time in words."""
    seconds, end = _number(told, "contract_s"), _number(told, "ends_unix")
    if seconds is not None and seconds < SOON_S:
        drains = isinstance(told, Mapping) and told.get("draining") is True
        after = ", gets no new requests" if drains else ""
        yield f"contract ends in {shown(seconds)}{after}", "red" if seconds < AT_ONCE_S else "yellow"
    elif seconds is None and end is not None and end < clock():
        yield f"contract ended {shown(clock() - end)} ago", "red"
    if isinstance(told, Mapping):
        if told.get("outbid_risk") == "high":
            yield "others bid more: it may be stopped", "yellow"
        if isinstance(rise := told.get("price_rise"), Mapping):
            yield _rise(rise), "yellow"


def _rise(rise: Mapping[str, Any]) -> str:
    old, new = _number(rise, "old_dollars_per_hour"), _number(rise, "new_dollars_per_hour")
    how = "" if new is None else f" to ${new:.3f}/h" if old is None else f" from ${old:.3f} to ${new:.3f}/h"
    return f"its host asks for more{how} after the contract; not answered"


def _number(told: object, name: str) -> float | None:
    value = told.get(name) if isinstance(told, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
