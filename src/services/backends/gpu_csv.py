"""What nvidia-smi says about the GPUs of an instance. Pure: text and exit status in, a reading out.

Facts: nvidia-smi(1) of drivers 470 to 580, among them its return codes, and the NVML API reference R550 for
the bits of the clock event reasons. It prints its failures on standard output, and single cells may be junk
such as `[N/A]`, `[Unknown Error]` or `ERR!` while the rest of the row is good.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from vastproxy.services.backends.gpu_query import MINIMAL_FIELDS, REFUSAL_PART, SAMPLED_FIELDS
from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading
from vastproxy.services.backends.gpu_values import (
    count,
    flag,
    number_within,
    one_line,
    printable_text,
    pstate,
    small_integer,
)

MAX_GPUS: Final = 64
_MAX_XIDS: Final = 16

#: Status -> what it means, for machines and for people.
_STATUS: Mapping[int, tuple[Failure, str]] = {
    4: (Failure.PERMISSION, "nvidia-smi may not read the GPUs (insufficient permissions)"),
    6: (Failure.NO_GPU, "no NVIDIA GPU was found in the instance"),
    8: (Failure.OTHER, "a GPU's power cables are not attached; report the machine to vast.ai"),
    9: (
        Failure.NO_DRIVER,
        "the NVIDIA driver does not answer; restart the instance, or report the machine to vast.ai",
    ),
    10: (Failure.OTHER, "the NVIDIA driver has trouble with a GPU's interrupts; restart the instance"),
    12: (Failure.NO_DRIVER, "the NVIDIA management library is missing in the instance"),
    13: (Failure.MISMATCH, "nvidia-smi and its library do not fit; restart the instance"),
    14: (Failure.OTHER, "a GPU's infoROM is corrupted; report the machine to vast.ai"),
    15: (
        Failure.LOST,
        "a GPU has fallen off the bus; restart the instance, or report the machine to vast.ai",
    ),
    18: (
        Failure.MISMATCH,
        "NVIDIA driver and library versions differ (the host was updated); restart the instance",
    ),
    124: (Failure.HUNG, "nvidia-smi did not answer in time; a GPU may hang"),
    126: (Failure.NOT_INSTALLED, "nvidia-smi cannot be executed in the instance"),
    127: (Failure.NOT_INSTALLED, "nvidia-smi is not installed in the instance"),
    137: (Failure.OTHER, "nvidia-smi was killed"),
    255: (Failure.OTHER, "NVIDIA driver error; restart the instance"),
}
#: Beginnings of the lines in which nvidia-smi reports a failure, also beside good rows and with status 0. The
#: longer ones first.
_SAID: Mapping[str, Failure] = {
    "unable to determine the device handle": Failure.LOST,
    "gpu is lost": Failure.LOST,
    "failed to initialize nvml: driver/library version mismatch": Failure.MISMATCH,
    "failed to initialize nvml: insufficient permissions": Failure.PERMISSION,
    "failed to initialize nvml: driver not loaded": Failure.NO_DRIVER,
    "failed to initialize nvml": Failure.OTHER,
    "nvidia-smi has failed": Failure.NO_DRIVER,
    "no devices were found": Failure.NO_GPU,
    "no devices found": Failure.NO_GPU,
}
_REASONS: Mapping[int, str] = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}

_INDEX = re.compile(r"\d{1,4}", re.ASCII)
_MASK = re.compile(r"0x[0-9a-f]{1,16}", re.ASCII | re.IGNORECASE)
# "NVRM: Xid (PCI:0000:03:00): 79, …" in a kernel's log, "Xid 79" elsewhere
_XID = re.compile(r"\bXid\b(?:\s*\([^)]{0,60}\))?\s*:?\s*(\d{1,3})\b", re.ASCII | re.IGNORECASE)
#: What every GPU has, so that failing to read it says something about the GPU.
_VITAL: Final = ("utilization.gpu", "temperature.gpu", "pstate")


def read_nvidia(stdout: str, exit_status: int | None, fields: Sequence[str] | None = None) -> GpuReading:
    """Read what a query for `fields` printed; also with a header, units, CRLF, or a login banner around it.

    Without `fields` rows are known by their width. `exit_status` is None when the command was killed or the
    status is unknown; its last line does not count then unless it is whole. Never raises.
    """
    lines = _lines(stdout, whole=exit_status is not None)
    xids = tuple(dict.fromkeys(int(found) for line in lines for found in _XID.findall(line)))[:_MAX_XIDS]
    if REFUSAL_PART in stdout:
        said = next((line for line in lines if REFUSAL_PART in line), REFUSAL_PART)
        return GpuReading(error=one_line(said), failure=Failure.UNKNOWN_FIELD, xids=xids)
    gpus = _gpus(lines, (tuple(fields),) if fields is not None else (SAMPLED_FIELDS, MINIMAL_FIELDS))
    failure, error = _error(lines, exit_status, has_gpus=bool(gpus))
    return GpuReading(gpus, error, failure, xids)


def _lines(stdout: str, *, whole: bool) -> list[str]:
    lines = stdout.splitlines()
    if not whole and lines and not stdout.endswith("\n"):
        lines.pop()  # half a number is a wrong number
    return [line.strip() for line in lines]


def _gpus(lines: Iterable[str], layouts: tuple[tuple[str, ...], ...]) -> tuple[Gpu, ...]:
    gpus: dict[int, Gpu] = {}
    for line in lines:
        cells = tuple(cell.strip() for cell in line.split(","))
        if cells[0] == "index" and len(cells) > 1:
            layouts = (tuple(cell.partition(" [")[0] for cell in cells), *layouts)[:4]
        elif len(gpus) < MAX_GPUS and (gpu := _row(cells, layouts)) is not None:
            gpus.setdefault(gpu.index, gpu)
    return tuple(gpus.values())


def _row(cells: tuple[str, ...], layouts: Iterable[tuple[str, ...]]) -> Gpu | None:
    if _INDEX.fullmatch(cells[0]) is None:
        return None
    for fields in layouts:
        if len(fields) == len(cells):
            row = dict(zip(fields, cells, strict=True))
            known = {name: read(row[field]) for field, (name, read) in _COLUMNS.items() if field in row}
            return Gpu(**{"index": int(cells[0]), **known, **_faults(row)})
    return None


def _faults(row: Mapping[str, str]) -> dict[str, bool]:
    """What the junk in a row's cells says about the GPU."""
    junk = [cell.lower() for cell in row.values() if cell.startswith("[")]
    faults = {}
    if any("requires reset" in cell for cell in junk):
        faults["needs_reset"] = True
    if any("gpu is lost" in cell for cell in junk):
        faults["lost"] = True
    if any(row.get(field, "").strip("[]").lower() in ("unknown error", "err!") for field in _VITAL):
        faults["unreadable"] = True
    return faults


def _reasons(cell: str) -> tuple[str, ...] | None:
    if _MASK.fullmatch(cell) is None:
        return None
    mask = int(cell, 16)
    return tuple(reason for bit, reason in _REASONS.items() if mask & bit)


_percent = number_within(0, 100)
_mib = number_within(0, 1e8)
_celsius = number_within(0, 200)
_watts = number_within(0, 1e5)
_mhz = number_within(0, 1e5)

#: Field of the query -> field of `Gpu`, and how its cell is read.
_COLUMNS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "uuid": ("uuid", printable_text),
    "name": ("name", printable_text),
    "driver_version": ("driver", printable_text),
    "utilization.gpu": ("utilization_percent", _percent),
    "utilization.memory": ("memory_utilization_percent", _percent),
    "memory.used": ("memory_used_mib", _mib),
    "memory.total": ("memory_total_mib", _mib),
    "memory.free": ("memory_free_mib", _mib),
    "temperature.gpu": ("temperature_c", _celsius),
    "temperature.memory": ("memory_temperature_c", _celsius),
    "power.draw": ("power_w", _watts),
    "power.limit": ("power_limit_w", _watts),
    "fan.speed": ("fan_percent", number_within(0, 200)),
    "clocks.current.graphics": ("graphics_clock_mhz", _mhz),
    "clocks.current.sm": ("sm_clock_mhz", _mhz),
    "clocks.max.sm": ("max_sm_clock_mhz", _mhz),
    "clocks.current.memory": ("memory_clock_mhz", _mhz),
    "pstate": ("pstate", pstate),
    "clocks_throttle_reasons.active": ("throttle", _reasons),
    "clocks_event_reasons.active": ("throttle", _reasons),
    "ecc.mode.current": ("ecc", flag),
    "ecc.errors.corrected.volatile.total": ("ecc_corrected", count),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected", count),
    "retired_pages.pending": ("pages_pending", flag),
    "reset_status.reset_required": ("needs_reset", flag),
    "pcie.link.gen.gpucurrent": ("pcie_gen", small_integer),
    "pcie.link.gen.current": ("pcie_gen", small_integer),
    "pcie.link.gen.max": ("pcie_gen_max", small_integer),
    "pcie.link.width.current": ("pcie_width", small_integer),
    "pcie.link.width.max": ("pcie_width_max", small_integer),
    "persistence_mode": ("persistence", flag),
    "mig.mode.current": ("mig", flag),
}


def _error(
    lines: Sequence[str], exit_status: int | None, *, has_gpus: bool
) -> tuple[Failure | None, str | None]:
    said, kind = _complaint(lines)
    if exit_status == 0 and said is None:
        return (None, None) if has_gpus else (Failure.OTHER, _first("nvidia-smi printed no GPU", lines))
    meaning = None if exit_status is None else _STATUS.get(exit_status)
    if meaning is not None:
        failure, text = meaning
        return failure, text if said is None else f"{text} ({said})"
    if said is not None:
        return kind, said
    if exit_status is None:
        return (None, None) if has_gpus else (Failure.OTHER, "nvidia-smi was ended before it answered")
    return Failure.OTHER, _first(f"nvidia-smi failed with status {exit_status}", lines)


def _complaint(lines: Iterable[str]) -> tuple[str | None, Failure | None]:
    """The first line in which nvidia-smi reports a failure, and which."""
    for line in lines:
        lower = line[:100].lower()
        for start, failure in _SAID.items():
            if lower.startswith(start):
                return one_line(line), failure
    return None, None


def _first(text: str, lines: Iterable[str]) -> str:
    first = one_line(next(filter(None, lines), ""))
    return f"{text}: {first}" if first else text
