"""What is known of the GPUs of an instance at one moment. Plain values, whichever program told them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Failure(StrEnum):
    """Why a program for reading GPUs failed. The values are words for machines."""

    NOT_INSTALLED = "not_installed"
    NO_GPU = "no_gpu"
    NO_DRIVER = "no_driver"
    MISMATCH = "driver_mismatch"
    PERMISSION = "permission"
    LOST = "lost"
    HUNG = "hung"
    UNKNOWN_FIELD = "unknown_field"
    OTHER = "unreadable"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. What could not be read is None, and what is there is possible: percentages of use are 0 to 100.

    Memory in MiB, temperature in °C, power in watts, clocks in MHz.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    driver: str | None = None
    utilization_percent: float | None = None
    memory_utilization_percent: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    memory_free_mib: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    #: May exceed 100 (nvidia-smi --help-query-gpu).
    fan_percent: float | None = None
    graphics_clock_mhz: float | None = None
    sm_clock_mhz: float | None = None
    max_sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    pstate: str | None = None
    #: What holds the clocks down, in the words of nvidia-smi such as `sw_power_cap`; () is nothing.
    throttle: tuple[str, ...] | None = None
    ecc: bool | None = None
    #: Since the driver was loaded.
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    #: Do broken memory pages wait for the next restart to be retired?
    pages_pending: bool | None = None
    needs_reset: bool | None = None
    pcie_gen: int | None = None
    pcie_gen_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    persistence: bool | None = None
    #: Is the GPU split into MIG slices? Its utilization is unknown then.
    mig: bool | None = None
    #: Did the driver say in a cell that it has lost the GPU?
    lost: bool = False
    #: Did the driver fail to read what every GPU has, such as the temperature? So it is after many an Xid.
    unreadable: bool = False

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        # dataclasses.asdict copies each value deeply, which for a large fleet holds up the event loop.
        throttle = None if self.throttle is None else list(self.throttle)
        return {name: getattr(self, name) for name in self.__slots__} | {"throttle": throttle}


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What one run of the program told. Both may be there: GPUs, and an error about another one."""

    gpus: tuple[Gpu, ...] = ()
    #: One printable line for a person, or None.
    error: str | None = None
    #: The same in one word, or None.
    failure: Failure | None = None
    #: Numbers of the Xid events it mentioned (NVIDIA's "Xid Errors", r555).
    xids: tuple[int, ...] = ()
