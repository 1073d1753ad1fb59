"""Reading nvidia-smi: every sample that was collected, and any other text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpus import GPU_QUERY_COMMAND, MINIMAL_COMMAND, Gpu, GpuReading, parse_gpus

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
    mig=None,
)


def read(name: str, status: int | None = 0) -> GpuReading:
    return parse_gpus((FIXTURES / f"nvidia_smi_{name}.txt").read_bytes().decode(), status)


def only(name: str) -> Gpu:
    reading = read(name)
    assert reading.error is None
    assert not reading.needs_minimal
    [gpu] = reading.gpus
    return gpu


def test_the_command_is_the_one_that_the_samples_were_taken_with() -> None:
    query = (FIXTURES / "nvidia_smi_QUERY.txt").read_text().strip()
    assert f"timeout 10 {query}" == GPU_QUERY_COMMAND
    assert MINIMAL_COMMAND == (
        "timeout 10 nvidia-smi "
        "--query-gpu=index,name,utilization.gpu,memory.used,memory.total,temperature.gpu --format=csv,noheader,nounits"
    )


def test_one_gpu_and_a_login_banner_around_it() -> None:
    assert only("1gpu") == RTX_4090
    assert only("with_banner") == RTX_4090


def test_eight_gpus_in_order() -> None:
    gpus = read("8xh100").gpus
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert {gpu.name for gpu in gpus} == {"NVIDIA H100 80GB HBM3"}
    assert {gpu.mig for gpu in gpus} == {False}
    assert [gpu.utilization_percent for gpu in gpus] == [88, 89, 90, 91, 92, 88, 89, 90]


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
        (
            "requires_reset",
            {
                "utilization_percent",
                "memory_utilization_percent",
                "memory_used_mib",
                "memory_total_mib",
                "temperature_c",
                "power_w",
                "power_limit_w",
                "pstate",
                "mig",
            },
        ),
    ],
)
def test_junk_in_a_cell_is_unknown_and_the_rest_of_the_row_counts(name: str, unknown: set[str]) -> None:
    gpu = only(name)
    assert {field for field in Gpu.__slots__ if getattr(gpu, field) is None} == unknown


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


def test_a_mig_parent_is_marked() -> None:
    assert only("mig").mig is True


def test_a_lost_gpu_beside_a_good_one_is_an_error_with_a_row() -> None:
    for status in (0, 15):
        reading = read("unable_handle", status)
        assert [gpu.index for gpu in reading.gpus] == [0]
        assert reading.error is not None
        assert "Unable to determine the device handle for GPU 0000:0B:00.0" in reading.error


@pytest.mark.parametrize(
    ("name", "status", "part"),
    [
        ("no_devices_rc6", 6, "no NVIDIA GPU was found"),
        ("no_driver_rc9", 9, "the NVIDIA driver does not answer"),
        ("not_found_rc127", 127, "nvidia-smi is not installed"),
        ("nvml_mismatch_rc18", 18, "driver and library versions differ"),
        ("unknown_error_rc255", 255, "restart the instance (Failed to initialize NVML: Unknown Error)"),
    ],
)
def test_failures_are_one_line_with_a_remedy(name: str, status: int, part: str) -> None:
    reading = read(name, status)
    assert reading.gpus == ()
    assert part in (reading.error or "")
    assert "\n" not in (reading.error or "")
    assert read(name, None).error, "the text alone is enough"


@pytest.mark.parametrize(
    ("stdout", "status", "part"),
    [
        ("", 124, "did not answer within 10 s"),
        ("", 15, "fallen off the bus"),
        ("", 0, "printed no GPU"),
        ("hello\n", 0, "printed no GPU: hello"),
        ("\n  something new\n", 77, "failed with status 77: something new"),
        ("", None, "was ended before it answered"),
    ],
)
def test_failures_without_a_sample(stdout: str, status: int | None, part: str) -> None:
    assert part in (parse_gpus(stdout, status).error or "")


def test_rows_of_a_killed_command_count() -> None:
    reading = parse_gpus((FIXTURES / "nvidia_smi_1gpu.txt").read_text(), None)
    assert reading == GpuReading((RTX_4090,))


def test_an_unknown_field_asks_for_the_minimal_query() -> None:
    text = 'Field "mig.mode.current" is not a valid field to query.\n\n'
    assert parse_gpus(text, 2) == GpuReading(
        error='Field "mig.mode.current" is not a valid field to query.', needs_minimal=True
    )
    minimal = parse_gpus("0, Tesla K80, [Not Supported], 11, 11441, 41\n", 0)
    assert minimal == GpuReading(
        (Gpu(0, name="Tesla K80", memory_used_mib=11, memory_total_mib=11441, temperature_c=41),)
    )


def test_impossible_values_are_unknown() -> None:
    [gpu] = parse_gpus("0, X, 250, -5, 1e9, 99999999999\n", 0).gpus
    assert gpu == Gpu(0, name="X")


def test_repeated_and_endless_rows_are_bounded() -> None:
    rows = "".join(f"{n % 200}, X, 1, 2, 3, 4\n" for n in range(10_000))
    gpus = parse_gpus(rows, 0).gpus
    assert len(gpus) == 64
    assert len({gpu.index for gpu in gpus}) == 64


cells = st.sampled_from(
    ["0", "1", "index", "[N/A]", "37 %", "9" * 5000, "P0", "Enabled", "", "-1", "nan", "index [x]"]
)
rows = st.lists(cells | st.text(max_size=5), max_size=14).map(", ".join)


@given(st.text() | st.lists(rows, max_size=6).map("\n".join), st.none() | st.integers(-1, 300))
def test_no_text_makes_it_raise(stdout: str, status: int | None) -> None:
    reading = parse_gpus(stdout, status)
    assert reading.error is None or "\n" not in reading.error
    assert reading.gpus or reading.error
    assert len(reading.error or "") < 500
