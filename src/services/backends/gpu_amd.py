"""What AMD's programs say about the GPUs of an instance. Pure: JSON and exit status in, a reading out.

Facts: `amd-smi metric --json` of ROCm 6.2 to 7.0, which prints a list of GPUs or an object with `gpu_data`, each
value as `{"value": 37, "unit": "%"}`, as a bare number or as `"N/A"`; `rocm-smi … --json` of ROCm 5.2 to 6.4, which
prints one object per card with names such as `GPU use (%)` and every value as text. Both are tolerated rather than
relied on: what is not found is None. AMD's megabytes are MiB (amdsmi.h, amdsmi_vram_usage_t, ROCm 6.1).
"""

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading
from vastproxy.services.backends.gpu_values import number_within, one_line, printable_text

MAX_GPUS: Final = 64
#: They are Python programs and take their time.
AMD_LIMIT_S: Final = 20.0
_UNITS: Final = {"KB": 1 / 1024, "MB": 1.0, "MIB": 1.0, "GB": 1024.0, "GIB": 1024.0}
_MIB: Final = 1024 * 1024
_BEGINNING = re.compile(r"^[ \t]*[\[{]", re.MULTILINE)
_MAX_BEGINNINGS: Final = 8
_THROTTLE: Final[Mapping[str, tuple[str, ...]]] = {"THROTTLED": ("throttled",), "UNTHROTTLED": ()}
#: GT/s of a PCIe link -> its generation (PCI Express Base Specification 6.0).
_GENERATIONS: Final[Mapping[float | None, int]] = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}

_percent = number_within(0, 100)
_celsius = number_within(0, 200)
_watts = number_within(0, 1e5)
_mhz = number_within(0, 1e5)
_mib = number_within(0, 1e8)
_bytes = number_within(0, 1e14)
_lanes = number_within(1, 32)
_speed = number_within(0, 1000)
_counts = number_within(0, 1e12)


def amd_command(limit_s: float = AMD_LIMIT_S) -> str:
    """One run of amd-smi where it is installed, otherwise of rocm-smi, which knows less; ends in its own time."""
    return (
        f"timeout {limit_s:g} env LC_ALL=C sh -c '"
        "if command -v amd-smi >/dev/null 2>&1; then exec amd-smi metric --json; "
        "else exec rocm-smi --showproductname --showuniqueid --showuse --showmemuse --showmeminfo vram --showtemp "
        "--showpower --showmaxpower --showfan --showdriverversion --json; fi'"
    )


def read_amd(stdout: str, exit_status: int | None) -> GpuReading:
    """Read what `amd_command` printed. Never raises."""
    cards = _parsed(stdout)
    gpus: dict[int, Gpu] = {}
    for gpu in cards:
        if len(gpus) < MAX_GPUS:
            gpus.setdefault(gpu.index, gpu)
    if gpus:
        return GpuReading(tuple(gpus.values()))
    failure, text = _failure(exit_status)
    first = one_line(next(filter(str.strip, stdout.splitlines()), ""))
    return GpuReading(error=f"{text}: {first}" if first else text, failure=failure)


def _failure(exit_status: int | None) -> tuple[Failure, str]:
    match exit_status:
        case 124:
            return Failure.HUNG, "AMD's tools did not answer in time; a GPU may hang"
        case 126 | 127:
            return Failure.NOT_INSTALLED, "neither amd-smi nor rocm-smi is installed in the instance"
        case 0 | None:
            return Failure.OTHER, "AMD's tools printed no GPU"
        case _:
            return Failure.OTHER, f"AMD's tools failed with status {exit_status}"


def _parsed(stdout: str) -> Iterator[Gpu]:
    document = _document(stdout)
    if isinstance(document, Mapping) and not isinstance(document.get("gpu_data"), list):
        return _of_rocm_smi(document)
    rows = document.get("gpu_data") if isinstance(document, Mapping) else document
    return _of_amd_smi(rows) if isinstance(rows, list) else iter(())


def _document(stdout: str) -> Any:
    """The first JSON document that begins a line, as a warning or a banner may come before it; None without one."""
    for begin in islice(_BEGINNING.finditer(stdout), _MAX_BEGINNINGS):
        with contextlib.suppress(ValueError, RecursionError):
            return json.JSONDecoder().raw_decode(stdout, begin.end() - 1)[0]
    return None


# ── amd-smi ────────────────────────────────────────────────────────────────────────────────────


def _of_amd_smi(rows: Iterable[Any]) -> Iterator[Gpu]:
    for row in rows:
        index = _at(row, "gpu")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index <= 9999:
            continue
        throttle = _at(row, "power", "throttle_status")
        yield Gpu(
            index,
            utilization_percent=_percent(_text(row, "usage", "gfx_activity")),
            memory_utilization_percent=_percent(_text(row, "usage", "umc_activity")),
            memory_used_mib=_memory(row, "used_vram"),
            memory_total_mib=_memory(row, "total_vram"),
            memory_free_mib=_memory(row, "free_vram"),
            temperature_c=_celsius(_text(row, "temperature", "hotspot"))
            or _celsius(_text(row, "temperature", "edge")),
            memory_temperature_c=_celsius(_text(row, "temperature", "mem")),
            power_w=_watts(_text(row, "power", "socket_power")),
            fan_percent=_percent(_text(row, "fan", "usage")),
            graphics_clock_mhz=_mhz(_text(row, "clock", "gfx_0", "clk")),
            memory_clock_mhz=_mhz(_text(row, "clock", "mem_0", "clk")),
            throttle=_THROTTLE.get(throttle) if isinstance(throttle, str) else None,
            ecc_corrected=_whole(_counts(_text(row, "ecc", "total_correctable_count"))),
            ecc_uncorrected=_whole(_counts(_text(row, "ecc", "total_uncorrectable_count"))),
            pcie_gen=_GENERATIONS.get(_speed(_text(row, "pcie", "speed"))),
            pcie_width=_whole(_lanes(_text(row, "pcie", "width"))),
        )


def _at(row: Any, *path: str) -> Any:
    """What is at the end of the path, or None."""
    for name in path:
        row = row.get(name) if isinstance(row, Mapping) else None
    return row


def _text(row: Any, *path: str) -> str:
    """The number at the end of the path as text, without its unit; "" when there is none."""
    found = _at(row, *path)
    return _plain(found.get("value") if isinstance(found, Mapping) else found)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value[:40].strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    # A NaN is in no range. Beyond it str() takes another notation, and no such value is possible anyway.
    return f"{value:.3f}" if -1e15 < value < 1e15 else ""


def _memory(row: Any, name: str) -> float | None:
    unit = _at(row, "mem_usage", name, "unit")
    value = _mib(_text(row, "mem_usage", name))
    scale = _UNITS.get(unit.upper(), 1.0) if isinstance(unit, str) else 1.0
    return None if value is None else min(value * scale, 1e8)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


# ── rocm-smi ───────────────────────────────────────────────────────────────────────────────────


def _of_rocm_smi(document: Mapping[str, Any]) -> Iterator[Gpu]:
    driver = printable_text(_plain(_at(document, "system", "Driver version")))
    for key, card in document.items():
        number = key.removeprefix("card")
        if key == number or not (number.isascii() and number.isdigit()) or len(number) > 4:
            continue
        if not isinstance(card, Mapping):
            continue
        used, total = _vram(card, "VRAM Total Used Memory (B)"), _vram(card, "VRAM Total Memory (B)")
        yield Gpu(
            int(number),
            uuid=printable_text(_any(card, "Unique ID")),
            name=printable_text(_any(card, "Card Series", "Card series", "Device Name")),
            driver=driver,
            utilization_percent=_percent(_any(card, "GPU use (%)")),
            memory_utilization_percent=_percent(
                _any(card, "GPU Memory Read/Write Activity (%)", "GPU memory use (%)")
            ),
            memory_used_mib=used,
            memory_total_mib=total,
            memory_free_mib=None if used is None or total is None else max(total - used, 0.0),
            temperature_c=_celsius(
                _any(card, "Temperature (Sensor junction) (C)", "Temperature (Sensor edge) (C)")
            ),
            memory_temperature_c=_celsius(_any(card, "Temperature (Sensor memory) (C)")),
            power_w=_watts(
                _any(
                    card,
                    "Current Socket Graphics Package Power (W)",
                    "Average Graphics Package Power (W)",
                )
            ),
            power_limit_w=_watts(_any(card, "Max Graphics Package Power (W)")),
            fan_percent=_percent(_any(card, "Fan speed (%)", "Fan Level")),
        )


def _any(card: Mapping[str, Any], *names: str) -> str:
    """The first of these that says something, as text."""
    texts = (_plain(card.get(name)) for name in names)
    return next((text for text in texts if text and text != "N/A"), "")


def _vram(card: Mapping[str, Any], name: str) -> float | None:
    value = _bytes(_any(card, name))
    return None if value is None else round(value / _MIB, 1)
