"""An instance as the ledger sees it: on which machine, at which price. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from vastproxy.services.filters import wanted
from vastproxy.settings.model import FleetSettings
from vastproxy.vastai import Instance

_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Rented:
    """`identity` tells one rental from the next, also where a number is used again. `dollars_per_hour`: as billed now,
    storage included; less while stopped. `dollars_per_byte_in`, `_out`: what its traffic costs, as seen from it; 0
    where that is free or not known."""

    id: int
    identity: str
    machine_id: int | None
    gpu: str
    is_running: bool
    dollars_per_hour: float
    dollars_per_byte_in: float
    dollars_per_byte_out: float

    @classmethod
    def of(cls, instance: Instance) -> Self:
        """What the account says of it. `inet_down_cost` and `inet_up_cost` are dollars for each GB (vast.ai API docs,
        2026-08)."""
        return cls(
            id=instance.id,
            identity=instance.identity,
            machine_id=instance.machine_id,
            gpu=f"{instance.num_gpus or '?'}x {instance.gpu_name or 'GPU'}",
            is_running=instance.is_running,
            dollars_per_hour=max(instance.hourly_cost or 0.0, 0.0),
            dollars_per_byte_in=_price(instance, "inet_down_cost") / _GB,
            dollars_per_byte_out=_price(instance, "inet_up_cost") / _GB,
        )


def rented(instances: Iterable[Instance], fleet: FleetSettings) -> Mapping[int, Rented]:
    """Those that the settings let in, by id, whatever they do: one that is stopped or starts costs money, too."""
    return {one.id: Rented.of(one) for one in instances if wanted(one, fleet)}


def _price(instance: Instance, name: str) -> float:
    value = instance.extra.get(name)
    is_price = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1000
    return float(value) if is_price else 0.0  # type: ignore[arg-type]
