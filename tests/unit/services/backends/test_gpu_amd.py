"""Reading AMD's programs: the shapes of their releases, and any other text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_amd import amd_command, read_amd
from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading


def v(value: Any, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit}


#: As amd-smi of ROCm 6.3 shows an MI300X, cut to what is read and a little more.
MI300X: dict[str, Any] = {
    "gpu": 0,
    "usage": {"gfx_activity": v(91, "%"), "umc_activity": v(66, "%"), "mm_activity": "N/A"},
    "power": {"socket_power": v(611, "W"), "gfx_voltage": v(933, "mV"), "throttle_status": "UNTHROTTLED"},
    "clock": {"gfx_0": {"clk": v(2100, "MHz"), "max_clk": v(2100, "MHz")}, "mem_0": {"clk": v(1300, "MHz")}},
    "temperature": {"edge": "N/A", "hotspot": v(63, "C"), "mem": v(50, "C")},
    "pcie": {"width": 16, "speed": v(32, "GT/s"), "bandwidth": "N/A"},
    "ecc": {"total_correctable_count": 3, "total_uncorrectable_count": 0},
    "fan": {"speed": "N/A", "usage": "N/A"},
    "mem_usage": {"total_vram": v(196592, "MB"), "used_vram": v(150000, "MB"), "free_vram": v(46592, "MB")},
}
READ = Gpu(
    0,
    utilization_percent=91,
    memory_utilization_percent=66,
    memory_used_mib=150000,
    memory_total_mib=196592,
    memory_free_mib=46592,
    temperature_c=63,
    memory_temperature_c=50,
    power_w=611,
    graphics_clock_mhz=2100,
    memory_clock_mhz=1300,
    throttle=(),
    ecc_corrected=3,
    ecc_uncorrected=0,
    pcie_gen=5,
    pcie_width=16,
)


@pytest.mark.parametrize("document", [[MI300X], {"gpu_data": [MI300X]}], ids=["6.3", "7.0"])
@pytest.mark.parametrize("before", ["", "WARNING: [gpu] user is not in group render\n[INFO] once more\n"])
def test_amd_smi_in_both_shapes_with_and_without_warnings(document: Any, before: str) -> None:
    assert read_amd(before + json.dumps(document, indent=4), 0) == GpuReading((READ,))


def test_bare_numbers_and_other_units() -> None:
    row = {
        "gpu": 1,
        "usage": {"gfx_activity": 50},
        "temperature": {"hotspot": "N/A", "edge": 41.5},
        "power": {"throttle_status": "THROTTLED"},
        "mem_usage": {"used_vram": v(1.5, "GB")},
    }
    assert read_amd(json.dumps([row]), 0).gpus == (
        Gpu(1, utilization_percent=50, temperature_c=41.5, memory_used_mib=1536, throttle=("throttled",)),
    )


def test_rocm_smi() -> None:
    """As ROCm 5.7 shows an MI250."""
    card = {
        "Unique ID": "0x719d230578348e8c",
        "Temperature (Sensor edge) (C)": "32.0",
        "Temperature (Sensor junction) (C)": "35.0",
        "Temperature (Sensor memory) (C)": "43.0",
        "Max Graphics Package Power (W)": "560.0",
        "Average Graphics Package Power (W)": "89.0",
        "GPU use (%)": "10",
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "11534336",
        "Card series": "AMD INSTINCT MI250",
        "Fan speed (%)": "N/A",
    }
    text = json.dumps({"card0": card, "card1": "broken", "cardx": {}, "system": {"Driver version": "6.2.4"}})
    assert read_amd(text, 0).gpus == (
        Gpu(
            0,
            uuid="0x719d230578348e8c",
            name="AMD INSTINCT MI250",
            driver="6.2.4",
            utilization_percent=10,
            memory_used_mib=11,
            memory_total_mib=65520,
            memory_free_mib=65509,
            temperature_c=35,
            memory_temperature_c=43,
            power_w=89,
            power_limit_w=560,
        ),
    )


@pytest.mark.parametrize(
    ("stdout", "status", "failure", "part"),
    [
        ("", 127, Failure.NOT_INSTALLED, "neither amd-smi nor rocm-smi is installed"),
        ("", 124, Failure.HUNG, "did not answer in time"),
        ("", None, Failure.OTHER, "printed no GPU"),
        ("[]", 0, Failure.OTHER, "printed no GPU: []"),
        ("ERROR: driver not loaded\n", 1, Failure.OTHER, "failed with status 1: ERROR: driver not loaded"),
        ("[" * 100_000, 0, Failure.OTHER, "printed no GPU"),
    ],
)
def test_failures(stdout: str, status: int | None, failure: Failure, part: str) -> None:
    reading = read_amd(stdout, status)
    assert (reading.gpus, reading.failure) == ((), failure)
    assert part in (reading.error or "")


def test_impossible_values_are_unknown() -> None:
    row = {
        "gpu": 0,
        "usage": {"gfx_activity": v(101, "%"), "umc_activity": True},
        "temperature": {"hotspot": v(-4, "C"), "mem": v(float("nan"), "C")},
        "power": {"socket_power": v(10**400, "W"), "throttle_status": ["THROTTLED"]},
        "mem_usage": {"used_vram": v(1e300, "MB"), "total_vram": v(float("inf"), "MB")},
    }
    assert read_amd(json.dumps([row]), 0).gpus == (Gpu(0),)


def test_many_gpus_are_bounded() -> None:
    assert len(read_amd(json.dumps([{"gpu": n} for n in range(500)]), 0).gpus) == 64


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(
    [
        "gpu",
        "gpu_data",
        "usage",
        "gfx_activity",
        "value",
        "unit",
        "mem_usage",
        "used_vram",
        "card0",
        "GPU use (%)",
    ]
) | st.text(max_size=4)
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(st.text() | documents.map(json.dumps), st.none() | st.integers(-1, 300))
def test_no_text_makes_it_raise_or_say_what_cannot_be(stdout: str, status: int | None) -> None:
    reading = read_amd(stdout, status)
    assert reading.gpus or reading.error
    for gpu in reading.gpus:
        for name in ("utilization_percent", "memory_utilization_percent", "fan_percent"):
            value = getattr(gpu, name)
            assert value is None or 0 <= value <= 100
        assert gpu.memory_used_mib is None or 0 <= gpu.memory_used_mib <= 1e8
        assert gpu.temperature_c is None or 0 <= gpu.temperature_c <= 200


def test_the_command_prefers_the_newer_program_and_is_bounded() -> None:
    command = amd_command()
    assert command.startswith("timeout 20 ")
    assert command.index("amd-smi metric --json") < command.index("rocm-smi")
