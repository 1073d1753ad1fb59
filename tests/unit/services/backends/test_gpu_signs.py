"""Signs of trouble: what is one, what it is called, and of which GPU."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_csv import read_nvidia
from vastproxy.services.backends.gpu_reading import Failure, Gpu, GpuReading
from vastproxy.services.backends.gpu_signs import Sign, Trouble, changes, signs

FIXTURES = Path(__file__).parents[3] / "fixtures" / "nvidia_smi"


def of_sample(name: str, status: int = 0) -> tuple[Sign, ...]:
    return signs(read_nvidia((FIXTURES / f"nvidia_smi_{name}.txt").read_text(), status))


@pytest.mark.parametrize(
    "name",
    [
        "1gpu",
        "8xh100",
        "with_banner",
        "na_power",
        "gb10_unified",
        "mig",
        "not_supported",
        "permission",
        "crlf_blank",
    ],
)
def test_nothing_is_wrong_with_what_is_only_not_known(name: str) -> None:
    assert of_sample(name) == ()


def test_samples_of_sick_gpus() -> None:
    assert of_sample("err") == (Sign(Trouble.DRIVER_ERROR, 0),)
    assert of_sample("requires_reset") == (Sign(Trouble.NEEDS_RESET, 0),)
    assert of_sample("unable_handle", 15) == (Sign(Trouble.LOST),)
    assert of_sample("nvml_mismatch_rc18", 18) == (Sign(Trouble.MISMATCH),)
    assert of_sample("no_driver_rc9", 9) == (Sign(Trouble.NO_DRIVER),)


@pytest.mark.parametrize(
    ("gpu", "troubles"),
    [
        (Gpu(0, throttle=("gpu_idle",)), []),
        (Gpu(0, throttle=("applications_clocks_setting", "sync_boost")), []),
        (Gpu(0, throttle=("sw_power_cap",)), [Trouble.POWER_CAP]),
        (Gpu(0, throttle=("sw_thermal_slowdown",)), [Trouble.THERMAL]),
        (Gpu(0, throttle=("hw_slowdown", "hw_thermal_slowdown")), [Trouble.THERMAL]),
        (Gpu(0, throttle=("hw_slowdown", "hw_power_brake_slowdown")), [Trouble.POWER_BRAKE]),
        (Gpu(0, throttle=("hw_slowdown",)), [Trouble.HW_SLOWDOWN]),
        (Gpu(0, throttle=("throttled",)), [Trouble.THROTTLED]),
        (Gpu(0, ecc_uncorrected=0, ecc_corrected=99), []),
        (Gpu(0, ecc_uncorrected=2), [Trouble.ECC]),
        (Gpu(0, pages_pending=True), [Trouble.PAGE_RETIREMENT]),
        (Gpu(0, needs_reset=True, lost=True), [Trouble.NEEDS_RESET, Trouble.LOST]),
        (Gpu(0, unreadable=True), [Trouble.DRIVER_ERROR]),
    ],
)
def test_each_sign(gpu: Gpu, troubles: list[Trouble]) -> None:
    assert [sign.trouble for sign in signs(GpuReading((gpu,)))] == troubles


def test_several_gpus_then_what_concerns_all() -> None:
    reading = GpuReading(
        (Gpu(0, throttle=("sw_thermal_slowdown", "hw_thermal_slowdown")), Gpu(5, needs_reset=True)),
        error="…",
        failure=Failure.HUNG,
        xids=(79,),
    )
    assert [str(sign) for sign in signs(reading)] == [
        "GPU 0: slowed down by heat",
        "GPU 5: needs a reset",
        "GPU: does not answer",
        "GPU: Xid event 79",
    ]


def test_only_what_somebody_must_see_to_is_a_fault() -> None:
    held_back = {trouble for trouble in Trouble if not trouble.is_fault}
    assert held_back == {
        Trouble.THERMAL,
        Trouble.POWER_CAP,
        Trouble.POWER_BRAKE,
        Trouble.HW_SLOWDOWN,
        Trouble.THROTTLED,
    }
    assert all(trouble.text for trouble in Trouble)


def test_a_sign_for_machines() -> None:
    assert Sign(Trouble.XID, code=79).to_json() == {
        "gpu": None,
        "sign": "xid",
        "code": 79,
        "fault": True,
        "text": "GPU: Xid event 79",
    }


a_sign = st.builds(Sign, st.sampled_from(Trouble), st.integers(0, 3))


@given(st.lists(a_sign, unique=True).map(tuple), st.lists(a_sign, unique=True).map(tuple))
def test_changes_lead_from_before_to_now(before: tuple[Sign, ...], now: tuple[Sign, ...]) -> None:
    appeared, gone = changes(before, now)
    assert (set(before) - set(gone)) | set(appeared) == set(now)
    assert not set(appeared) & set(gone)
