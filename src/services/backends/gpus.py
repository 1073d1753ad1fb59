"""What nvidia-smi says about the GPUs of an instance. Pure: text and exit status in, a reading out.

Facts: nvidia-smi(1) of drivers 535 to 580, among them its return codes. It prints its failures on
standard output, and single cells may be junk such as `[N/A]`, `[Unknown Error]` or `ERR!` while the
rest of the row is good.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FULL_FIELDS = (
    "index",
    "uuid",
    "name",
    "driver_version",
    "utilization.gpu",
    "utilization.memory",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "pstate",
    "mig.mode.current",
)
_MINIMAL_FIELDS = ("index", "name", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu")


def _command(fields: Sequence[str]) -> str:
    # It hangs on a sick GPU; `timeout` ends it inside the instance too, with status 124.
    return f"timeout 10 nvidia-smi --query-gpu={','.join(fields)} --format=csv,noheader,nounits"


#: The command whose output `parse_gpus` reads.
GPU_QUERY_COMMAND = _command(_FULL_FIELDS)
#: For drivers that do not know one of those fields and therefore refuse the whole query.
MINIMAL_COMMAND = _command(_MINIMAL_FIELDS)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. What could not be read is None. Memory in MiB, temperature in °C, power in watts."""

    index: int
    uuid: str | None = None
    name: str | None = None
    driver: str | None = None
    utilization_percent: float | None = None
    memory_utilization_percent: float | None = None
    memory_used_mib: float | None = None
    memory_total_mib: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    pstate: str | None = None
    #: Is the GPU split into MIG slices? Its utilization is unknown then.
    mig: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields by name."""
        # dataclasses.asdict copies each value deeply, which for a large fleet holds up the event loop.
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What one run of nvidia-smi told. Both may be there: GPUs, and an error about another one."""

    gpus: tuple[Gpu, ...] = ()
    #: One line for a person, or None.
    error: str | None = None
    #: The driver does not know a field of `GPU_QUERY_COMMAND`: run `MINIMAL_COMMAND` from now on.
    needs_minimal: bool = False


_STATUS_TEXTS: Mapping[int, str] = {
    4: "nvidia-smi may not read the GPUs (insufficient permissions)",
    6: "no NVIDIA GPU was found in the instance",
    9: "the NVIDIA driver does not answer; restart the instance, or report the machine to vast.ai",
    12: "the NVIDIA management library is missing in the instance",
    15: "a GPU has fallen off the bus; restart the instance, or report the machine to vast.ai",
    18: "NVIDIA driver and library versions differ (the host was updated); restart the instance",
    124: "nvidia-smi did not answer within 10 s; a GPU may hang",
    126: "nvidia-smi cannot be executed in the instance",
    127: "nvidia-smi is not installed in the instance",
    137: "nvidia-smi was killed",
    255: "NVIDIA driver error; restart the instance",
}
_UNKNOWN_FIELD = "is not a valid field"
#: Beginnings of the lines in which nvidia-smi reports a failure, also beside good rows and with status 0.
_FAILURE_STARTS = (
    "unable to determine the device handle",
    "failed to initialize nvml",
    "nvidia-smi has failed",
    "no devices were found",
    "gpu is lost",
)
_MAX_GPUS = 64
_MAX_ERROR = 200

_NUMBER = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(?:%|MiB|W|C)?")
_INDEX = re.compile(r"\d{1,4}")
_JUNK = re.compile(r"\[.*\]|N/A|ERR!|Unknown Error|", re.IGNORECASE)


def parse_gpus(stdout: str, exit_status: int | None) -> GpuReading:
    """Read the output of either command, also with a header, units, CRLF, or a login banner around it.

    `exit_status` is None when the command was killed or the status is unknown. Never raises.
    """
    lines = [line.strip() for line in stdout.splitlines()]
    if _UNKNOWN_FIELD in stdout:
        return GpuReading(error=_said(lines, _UNKNOWN_FIELD), needs_minimal=True)
    gpus: dict[int, Gpu] = {}
    header: tuple[str, ...] | None = None
    for line in lines:
        cells = tuple(cell.strip() for cell in line.split(","))
        if cells[0] == "index" and len(cells) > 1:
            header = tuple(cell.partition(" [")[0] for cell in cells)
        elif len(gpus) < _MAX_GPUS and (gpu := _row(cells, header)) is not None:
            gpus.setdefault(gpu.index, gpu)
    return GpuReading(tuple(gpus.values()), _error(lines, exit_status, has_gpus=bool(gpus)))


def _row(cells: tuple[str, ...], header: tuple[str, ...] | None) -> Gpu | None:
    if _INDEX.fullmatch(cells[0]) is None:
        return None
    for fields in (header, _FULL_FIELDS, _MINIMAL_FIELDS):
        if fields is not None and len(fields) == len(cells):
            known = (
                (_COLUMNS[field], cell)
                for field, cell in zip(fields, cells, strict=True)
                if field in _COLUMNS
            )
            return Gpu(**{name: read(cell) for (name, read), cell in known})
    return None


def _text(cell: str) -> str | None:
    return None if _JUNK.fullmatch(cell) else cell


def _number(cell: str) -> float | None:
    found = _NUMBER.fullmatch(cell)
    return None if found is None else float(found[1])


def _percent(cell: str) -> float | None:
    number = _number(cell)
    return number if number is not None and number <= 100 else None


def _mig(cell: str) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(cell)


#: Field of the query -> field of `Gpu`, and how its cell is read.
_COLUMNS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "index": ("index", int),
    "uuid": ("uuid", _text),
    "name": ("name", _text),
    "driver_version": ("driver", _text),
    "utilization.gpu": ("utilization_percent", _percent),
    "utilization.memory": ("memory_utilization_percent", _percent),
    "memory.used": ("memory_used_mib", _number),
    "memory.total": ("memory_total_mib", _number),
    "temperature.gpu": ("temperature_c", _number),
    "power.draw": ("power_w", _number),
    "power.limit": ("power_limit_w", _number),
    "pstate": ("pstate", _text),
    "mig.mode.current": ("mig", _mig),
}


def _error(lines: Sequence[str], exit_status: int | None, *, has_gpus: bool) -> str | None:
    said = next((line for line in lines if line.lower().startswith(_FAILURE_STARTS)), None)
    if exit_status == 0 and said is None:
        return None if has_gpus else _bounded("nvidia-smi printed no GPU", lines)
    meaning = None if exit_status is None else _STATUS_TEXTS.get(exit_status)
    if meaning is not None:
        return meaning if said is None else f"{meaning} ({said:.{_MAX_ERROR}})"
    if said is not None:
        return said[:_MAX_ERROR]
    if exit_status is None:
        return None if has_gpus else "nvidia-smi was ended before it answered"
    return _bounded(f"nvidia-smi failed with status {exit_status}", lines)


def _said(lines: Iterable[str], part: str) -> str:
    return next((line for line in lines if part in line), part)[:_MAX_ERROR]


def _bounded(text: str, lines: Iterable[str]) -> str:
    first = next(filter(None, lines), "")
    return f"{text}: {first:.{_MAX_ERROR}}" if first else text
