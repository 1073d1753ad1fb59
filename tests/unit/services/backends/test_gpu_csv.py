"""Reading nvidia-smi: every sample that was collected, and any other text."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_csv import read_nvidia
from vastproxy.services.backends.gpu_query import FULL_FIELDS, MINIMAL_FIELDS, OTHER_NAMES, GpuQuery
from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading

FIXTURES = Path(__file__).parents[3] / "fixtures" / "nvidia_smi"
RTX_4090 = Gpu(
    index=0,
    uuid="GPU-00000000-3f5c-11d2-9a40-0c2b7b1d0000",
    name="NVIDIA GeForce RTX 4090",
    driver="570.133.20",
    utilization_percent=37,
    memory_utilization_percent=21,
    memory_used_mib=21044,
    memory_total_mib=24564,
    temperature_c=52,
    power_w=288.41,
    power_limit_w=450,
    pstate="P2",
)
#: What the query of the samples asks for, by name in `Gpu`.
SAMPLED = {
    *("index", "uuid", "name", "driver", "utilization_percent", "memory_utilization_percent"),
    *("memory_used_mib", "memory_total_mib", "temperature_c", "power_w", "power_limit_w", "pstate", "mig"),
}
#: A row for each field of the full query.
CELLS = {
    "index": "3",
    "uuid": "GPU-1",
    "name": "NVIDIA H100 80GB HBM3",
    "driver_version": "550.163.01",
    "utilization.gpu": "88",
    "utilization.memory": "40",
    "memory.used": "73210",
    "memory.total": "81559",
    "temperature.gpu": "58",
    "power.draw": "601.20",
    "power.limit": "700.00",
    "pstate": "P0",
    "mig.mode.current": "Disabled",
    "memory.free": "8000",
    "temperature.memory": "71",
    "fan.speed": "[N/A]",
    "clocks.current.graphics": "1755",
    "clocks.current.sm": "1750",
    "clocks.max.sm": "1980",
    "clocks.current.memory": "2619",
    "clocks_event_reasons.active": "0x000000000000002C",
    "ecc.mode.current": "Enabled",
    "ecc.errors.corrected.volatile.total": "12",
    "ecc.errors.uncorrected.volatile.total": "1",
    "retired_pages.pending": "No",
    "reset_status.reset_required": "Yes",
    "pcie.link.gen.current": "5",
    "pcie.link.gen.max": "5",
    "pcie.link.width.current": "8",
    "pcie.link.width.max": "16",
    "persistence_mode": "Enabled",
}


def read(name: str, status: int | None = 0) -> GpuReading:
    return read_nvidia((FIXTURES / f"nvidia_smi_{name}.txt").read_bytes().decode(), status)


def only(name: str) -> Gpu:
    reading = read(name)
    assert (reading.error, reading.failure) == (None, None)
    [gpu] = reading.gpus
    return gpu


def test_one_gpu_and_a_login_banner_around_it() -> None:
    assert only("1gpu") == RTX_4090
    assert only("with_banner") == RTX_4090


def test_eight_gpus_in_order() -> None:
    gpus = read("8xh100").gpus
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert {gpu.name for gpu in gpus} == {"NVIDIA H100 80GB HBM3"}
    assert {gpu.mig for gpu in gpus} == {False}
    assert [gpu.utilization_percent for gpu in gpus] == [88, 89, 90, 91, 92, 88, 89, 90]


def test_every_field_of_the_full_query_is_read() -> None:
    [gpu] = read_nvidia(", ".join(CELLS[field] for field in FULL_FIELDS) + "\n", 0, FULL_FIELDS).gpus
    assert gpu == Gpu(
        index=3,
        uuid="GPU-1",
        name="NVIDIA H100 80GB HBM3",
        driver="550.163.01",
        utilization_percent=88,
        memory_utilization_percent=40,
        memory_used_mib=73210,
        memory_total_mib=81559,
        memory_free_mib=8000,
        temperature_c=58,
        memory_temperature_c=71,
        power_w=601.2,
        power_limit_w=700,
        fan_percent=None,
        graphics_clock_mhz=1755,
        sm_clock_mhz=1750,
        max_sm_clock_mhz=1980,
        memory_clock_mhz=2619,
        pstate="P0",
        throttle=("sw_power_cap", "hw_slowdown", "sw_thermal_slowdown"),
        ecc=True,
        ecc_corrected=12,
        ecc_uncorrected=1,
        pages_pending=False,
        needs_reset=True,
        pcie_gen=5,
        pcie_gen_max=5,
        pcie_width=8,
        pcie_width_max=16,
        persistence=True,
        mig=False,
    )


def test_a_gpu_is_plain_json() -> None:
    row = Gpu(2, throttle=("sw_power_cap",), ecc=True).to_json()
    assert json.loads(json.dumps(row)) == row
    assert (row["index"], row["throttle"], row["ecc"], row["name"]) == (2, ["sw_power_cap"], True, None)
    assert set(row) == set(Gpu.__slots__)
    assert Gpu(0).to_json()["throttle"] is None


@pytest.mark.parametrize(("name", "older"), OTHER_NAMES.items())
def test_a_field_is_read_by_its_other_name_too(name: str, older: str) -> None:
    [gpu] = read_nvidia(f"0, {CELLS[name]}\n", 0, ("index", older)).gpus
    assert gpu == read_nvidia(f"0, {CELLS[name]}\n", 0, ("index", name)).gpus[0]
    assert gpu != Gpu(0)


def test_a_row_of_another_width_than_asked_for_is_none() -> None:
    reading = read_nvidia("0, X, 1, 2, 3, 4\n", 0, FULL_FIELDS)
    assert reading.gpus == ()
    assert reading.failure is Failure.OTHER


def test_nothing_holds_the_clocks_down() -> None:
    fields = ("index", "clocks_event_reasons.active")
    assert read_nvidia("0, 0x0000000000000000\n", 0, fields).gpus[0].throttle == ()
    assert read_nvidia("0, [N/A]\n", 0, fields).gpus[0].throttle is None


def test_carriage_returns_and_blank_lines() -> None:
    gpu = only("crlf_blank")
    assert (gpu.utilization_percent, gpu.pstate, gpu.mig) == (0, "P8", None)


def test_a_header_names_the_columns_and_units_are_stripped() -> None:
    gpu = only("header_units")
    assert (gpu.utilization_percent, gpu.memory_used_mib, gpu.memory_total_mib) == (37, 21044, 24564)
    assert (gpu.temperature_c, gpu.power_w, gpu.power_limit_w, gpu.uuid) == (52, 288.41, 450, None)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("na_power", {"power_w", "power_limit_w", "mig"}),
        ("gb10_unified", {"memory_used_mib", "memory_total_mib", "power_limit_w", "mig"}),
        ("mig", {"utilization_percent", "memory_utilization_percent"}),
        ("not_supported", {"utilization_percent", "memory_utilization_percent", "power_limit_w", "mig"}),
        ("permission", {"utilization_percent", "memory_utilization_percent", "mig"}),
        ("requires_reset", SAMPLED - {"index", "uuid", "name", "driver"}),
    ],
)
def test_junk_in_a_cell_is_unknown_and_the_rest_of_the_row_counts(name: str, unknown: set[str]) -> None:
    gpu = only(name)
    assert {field for field in SAMPLED if getattr(gpu, field) is None} == unknown


def test_errors_in_one_row_leave_the_other_one_whole() -> None:
    sick, fine = read("err").gpus
    assert (sick.utilization_percent, sick.temperature_c, sick.power_w, sick.pstate) == (
        None,
        None,
        None,
        None,
    )
    assert (sick.memory_total_mib, sick.power_limit_w) == (24576, 350)
    assert (fine.index, fine.utilization_percent, fine.pstate) == (1, 12, "P2")
    assert (sick.unreadable, fine.unreadable) == (True, False)


def test_what_a_driver_says_in_a_cell_about_the_gpu_is_kept() -> None:
    assert only("requires_reset").needs_reset is True
    [lost] = read_nvidia("0, X, [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]\n", 0).gpus
    assert lost.lost
    assert not only("na_power").unreadable, "what is not supported is no sign of trouble"


def test_a_mig_parent_is_marked() -> None:
    assert only("mig").mig is True


def test_a_lost_gpu_beside_a_good_one_is_an_error_with_a_row() -> None:
    for status in (0, 15):
        reading = read("unable_handle", status)
        assert [gpu.index for gpu in reading.gpus] == [0]
        assert reading.failure is Failure.LOST
        assert reading.error is not None
        assert "Unable to determine the device handle for GPU 0000:0B:00.0" in reading.error


@pytest.mark.parametrize(
    ("name", "status", "failure", "part"),
    [
        ("no_devices_rc6", 6, Failure.NO_GPU, "no NVIDIA GPU was found"),
        ("no_driver_rc9", 9, Failure.NO_DRIVER, "the NVIDIA driver does not answer"),
        ("not_found_rc127", 127, Failure.NOT_INSTALLED, "nvidia-smi is not installed"),
        ("nvml_mismatch_rc18", 18, Failure.MISMATCH, "driver and library versions differ"),
        (
            "unknown_error_rc255",
            255,
            Failure.OTHER,
            "restart the instance (Failed to initialize NVML: Unknown Error)",
        ),
    ],
)
def test_failures_are_one_line_with_a_remedy(name: str, status: int, failure: Failure, part: str) -> None:
    reading = read(name, status)
    assert (reading.gpus, reading.failure) == ((), failure)
    assert part in (reading.error or "")
    assert "\n" not in (reading.error or "")
    assert read(name, None).error, "the text alone is enough"


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("no_devices_rc6", Failure.NO_GPU),
        ("no_driver_rc9", Failure.NO_DRIVER),
        ("nvml_mismatch_rc18", Failure.MISMATCH),
        ("unable_handle", Failure.LOST),
    ],
)
def test_the_text_alone_tells_which_failure_it_is(name: str, failure: Failure) -> None:
    assert read(name, None).failure is failure
    assert read(name, 0).failure is failure


@pytest.mark.parametrize(
    ("stdout", "status", "failure", "part"),
    [
        ("", 124, Failure.HUNG, "did not answer in time"),
        ("", 15, Failure.LOST, "fallen off the bus"),
        ("", 0, Failure.OTHER, "printed no GPU"),
        ("hello\n", 0, Failure.OTHER, "printed no GPU: hello"),
        ("\n  something new\n", 77, Failure.OTHER, "failed with status 77: something new"),
        ("", None, Failure.OTHER, "was ended before it answered"),
        (
            "bash: Zeile 1: nvidia-smi: Kommando nicht gefunden.\n",
            127,
            Failure.NOT_INSTALLED,
            "not installed",
        ),
        ("\x1b[31m\x00oops\x07\n", 3, Failure.OTHER, "failed with status 3: [31m oops"),
    ],
)
def test_failures_without_a_sample(stdout: str, status: int | None, failure: Failure, part: str) -> None:
    reading = read_nvidia(stdout, status)
    assert reading.failure is failure
    assert part in (reading.error or "")


def test_whole_rows_of_a_killed_command_count() -> None:
    text = (FIXTURES / "nvidia_smi_1gpu.txt").read_text()
    assert read_nvidia(text, None) == GpuReading((RTX_4090,))
    assert read_nvidia(text + text.strip().replace("0, ", "1, ", 1), None) == GpuReading((RTX_4090,))


def test_xid_events_are_counted_by_their_numbers() -> None:
    text = (
        "NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"
        "0, X, 1, 2, 3, 4\nXid 48 occurred, Xid: 79\n"
    )
    reading = read_nvidia(text, 0)
    assert reading.xids == (79, 48)
    assert len(reading.gpus) == 1


def test_an_unknown_field_is_told_from_other_failures() -> None:
    text = 'Field "mig.mode.current" is not a valid field to query.\n\n'
    assert read_nvidia(text, 2) == GpuReading(
        error='Field "mig.mode.current" is not a valid field to query.', failure=Failure.UNKNOWN_FIELD
    )
    minimal = read_nvidia("0, Tesla K80, [Not Supported], 11, 11441, 41\n", 0)
    assert minimal == GpuReading(
        (Gpu(0, name="Tesla K80", memory_used_mib=11, memory_total_mib=11441, temperature_c=41),)
    )


def test_impossible_values_are_unknown() -> None:
    [gpu] = read_nvidia("0, X, 250, -5, 1e9, 99999999999\n", 0).gpus
    assert gpu == Gpu(0, name="X")


def test_repeated_and_endless_rows_are_bounded() -> None:
    rows = "".join(f"{n % 200}, X, 1, 2, 3, 4\n" for n in range(10_000))
    gpus = read_nvidia(rows, 0).gpus
    assert len(gpus) == 64
    assert len({gpu.index for gpu in gpus}) == 64


#: Name in `Gpu` -> lowest and highest possible value.
RANGES = {
    "utilization_percent": (0, 100),
    "memory_utilization_percent": (0, 100),
    "temperature_c": (0, 200),
    "memory_temperature_c": (0, 200),
    "fan_percent": (0, 200),
    "pcie_gen": (1, 32),
    "pcie_width": (1, 32),
    "memory_used_mib": (0, 1e8),
    "memory_total_mib": (0, 1e8),
    "power_w": (0, 1e5),
    "sm_clock_mhz": (0, 1e5),
    "ecc_uncorrected": (0, 1e15),
}


def possible(reading: GpuReading) -> None:
    assert len(reading.gpus) <= 64
    for gpu in reading.gpus:
        for name, (lowest, highest) in RANGES.items():
            value = getattr(gpu, name)
            assert value is None or lowest <= value <= highest, (name, value)
        for text in (gpu.name, gpu.uuid, gpu.driver, gpu.pstate):
            assert text is None or (text.isprintable() and 0 < len(text) <= 200)
    assert reading.error is None or (reading.error.isprintable() and len(reading.error) < 500)
    assert reading.gpus or reading.error
    assert (reading.error is None) == (reading.failure is None)


numbers = st.integers(-300, 10**20).map(str) | st.floats().map(str)
junk = st.sampled_from(
    [
        "index",
        "[N/A]",
        "37 %",
        "9" * 5000,
        "P0",
        "Enabled",
        "",
        "-1",
        "nan",
        "index [x]",
        "0xFFFFFFFFFFFFFFFF",
        "[GPU is lost]",
        "[GPU requires reset]",
        "ERR!",
        "٣",
        "²",
        "1\x00",
        "\x1b[1m7",
    ]
)
cells = junk | numbers | st.text(max_size=5)
rows = st.lists(cells, max_size=14).map(", ".join) | st.lists(
    cells, min_size=len(FULL_FIELDS) - 1, max_size=len(FULL_FIELDS) - 1
).map(lambda row: ", ".join(["0", *row]))


@given(
    st.text() | st.lists(rows, max_size=6).map("\n".join),
    st.none() | st.integers(-1, 300),
    st.sampled_from([None, FULL_FIELDS, MINIMAL_FIELDS]),
)
def test_no_text_makes_it_raise_or_say_what_cannot_be(
    stdout: str, status: int | None, fields: tuple[str, ...] | None
) -> None:
    possible(read_nvidia(stdout, status, fields))


@given(st.binary(max_size=400), st.none() | st.integers(-1, 300))
def test_no_bytes_make_it_raise(data: bytes, status: int | None) -> None:
    possible(read_nvidia(data.decode("utf-8", "replace"), status, GpuQuery().fields))


@given(st.integers(0, 400))
def test_a_cut_output_never_invents_a_value(length: int) -> None:
    """Cut anywhere: what is read of the first GPU is what is read of the whole."""
    whole = read("8xh100")
    text = (FIXTURES / "nvidia_smi_8xh100.txt").read_text()
    for gpu in read_nvidia(text[:length], None).gpus:
        assert gpu == whole.gpus[gpu.index]
