"""The fuzzer's targets hold for what they begin with, for mangled pieces of it, and for any bytes."""

import importlib.util

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.__main__ import main
from fuzz.targets import TARGETS

ALL = pytest.mark.parametrize("name", TARGETS)


@ALL
def test_what_it_begins_with(name: str) -> None:
    for seed in TARGETS[name].seeds:
        for data in (seed, seed[:-1], seed[1:], seed + seed, b""):
            TARGETS[name].run(data)


@ALL
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    at = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(at, len(seed)))
    put = data.draw(
        st.binary(max_size=12) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b"[" * 2_000, b"9" * 5_000])
    )
    target.run(seed[:at] + put + seed[end:])
    target.run(data.draw(st.binary(max_size=200)))


def test_without_the_fuzzer_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("atheris") is not None:
        pytest.skip("atheris is installed here: `make fuzz` works")
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("skipped: atheris is not installed")


def test_an_unknown_target_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "no target is called nothing" in capsys.readouterr().err
