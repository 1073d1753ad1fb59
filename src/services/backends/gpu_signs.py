"""Signs of trouble in a reading of the GPUs: short words for machines, a few more for people. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading


class Trouble(StrEnum):
    """What may be wrong. The values are words for machines, such as labels of metrics."""

    THERMAL = "thermal"
    POWER_CAP = "power_cap"
    POWER_BRAKE = "power_brake"
    HW_SLOWDOWN = "hw_slowdown"
    THROTTLED = "throttled"
    ECC = "ecc_uncorrected"
    PAGE_RETIREMENT = "page_retirement"
    NEEDS_RESET = "needs_reset"
    LOST = "lost"
    DRIVER_ERROR = "driver_error"
    XID = "xid"
    HUNG = "hung"
    MISMATCH = "driver_mismatch"
    NO_DRIVER = "no_driver"

    @property
    def text(self) -> str:
        """For people."""
        return _TEXTS[self]

    @property
    def is_fault(self) -> bool:
        """Does somebody have to do something? A GPU that is only held back goes on working."""
        return self not in _HELD_BACK


_TEXTS: Final = {
    Trouble.THERMAL: "slowed down by heat",
    Trouble.POWER_CAP: "held at its power limit",
    Trouble.POWER_BRAKE: "slowed down by the power supply",
    Trouble.HW_SLOWDOWN: "slowed down by its hardware",
    Trouble.THROTTLED: "slowed down",
    Trouble.ECC: "uncorrected memory errors",
    Trouble.PAGE_RETIREMENT: "broken memory pages wait for a restart",
    Trouble.NEEDS_RESET: "needs a reset",
    Trouble.LOST: "lost by the driver",
    Trouble.DRIVER_ERROR: "cannot be read by the driver",
    Trouble.XID: "Xid event",
    Trouble.HUNG: "does not answer",
    Trouble.MISMATCH: "driver and library differ",
    Trouble.NO_DRIVER: "the driver does not answer",
}
#: The GPU works, and slower than it could.
_HELD_BACK: Final = {
    Trouble.THERMAL,
    Trouble.POWER_CAP,
    Trouble.POWER_BRAKE,
    Trouble.HW_SLOWDOWN,
    Trouble.THROTTLED,
}
_OF_REASONS: Final = {
    "sw_thermal_slowdown": Trouble.THERMAL,
    "hw_thermal_slowdown": Trouble.THERMAL,
    "sw_power_cap": Trouble.POWER_CAP,
    "hw_power_brake_slowdown": Trouble.POWER_BRAKE,
    "throttled": Trouble.THROTTLED,
}
_OF_FAILURES: Final = {
    Failure.LOST: Trouble.LOST,
    Failure.HUNG: Trouble.HUNG,
    Failure.MISMATCH: Trouble.MISMATCH,
    Failure.NO_DRIVER: Trouble.NO_DRIVER,
}


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign of trouble. `gpu` is the index of the GPU; None when nothing says which one, or it is all of them."""

    trouble: Trouble
    gpu: int | None = None
    #: The number of an Xid event.
    code: int | None = None

    def __str__(self) -> str:
        where = "GPU" if self.gpu is None else f"GPU {self.gpu}"
        return f"{where}: {self.trouble.text}" + ("" if self.code is None else f" {self.code}")

    def to_json(self) -> dict[str, Any]:
        """Its fields, and whether somebody has to do something."""
        return {
            "gpu": self.gpu,
            "sign": self.trouble.value,
            "code": self.code,
            "fault": self.trouble.is_fault,
            "text": str(self),
        }


def signs(reading: GpuReading) -> tuple[Sign, ...]:
    """All signs of trouble, each once: those of the single GPUs in their order, then those of the whole."""
    found = [Sign(trouble, gpu.index) for gpu in reading.gpus for trouble in _of_gpu(gpu)]
    if reading.failure is not None and (trouble := _OF_FAILURES.get(reading.failure)) is not None:
        found.append(Sign(trouble))
    found += [Sign(Trouble.XID, code=code) for code in reading.xids]
    return tuple(dict.fromkeys(found))


def changes(before: tuple[Sign, ...], now: tuple[Sign, ...]) -> tuple[tuple[Sign, ...], tuple[Sign, ...]]:
    """Which signs have appeared, and which have gone."""
    return tuple(sign for sign in now if sign not in before), tuple(
        sign for sign in before if sign not in now
    )


def _of_gpu(gpu: Gpu) -> tuple[Trouble, ...]:
    reasons = gpu.throttle or ()
    troubles = [_OF_REASONS[reason] for reason in reasons if reason in _OF_REASONS]
    if "hw_slowdown" in reasons and not {Trouble.THERMAL, Trouble.POWER_BRAKE} & set(troubles):
        troubles.append(Trouble.HW_SLOWDOWN)  # otherwise the same once more, with less detail
    facts = (
        (Trouble.ECC, (gpu.ecc_uncorrected or 0) > 0),
        (Trouble.PAGE_RETIREMENT, gpu.pages_pending),
        (Trouble.NEEDS_RESET, gpu.needs_reset),
        (Trouble.LOST, gpu.lost),
        (Trouble.DRIVER_ERROR, gpu.unreadable),
    )
    return (*troubles, *(trouble for trouble, is_so in facts if is_so))
