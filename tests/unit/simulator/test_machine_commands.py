"""nvidia-smi and the few other commands of a simulated instance."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpus import GpuProgram
from vastproxy.simulator.catalog import GPUS
from vastproxy.simulator.nvidia_smi import Gpus, Output
from vastproxy.simulator.shell import run_command

QUERY = (Path(__file__).resolve().parents[2] / "fixtures/nvidia_smi/nvidia_smi_QUERY.txt").read_text().strip()


def run(command: str, *, gpus: Gpus | None = None, load: float = 0.0, now: float = 0.0) -> Output:
    gpus = gpus or Gpus("RTX 4090", 1, 1)
    return run_command(command, lambda arguments: gpus.run(arguments, load=load, now=now))


def cells(output: Output) -> list[list[str]]:
    return [line.split(", ") for line in output.stdout.splitlines()]


def test_the_query_has_its_columns_in_the_order_asked_for() -> None:
    output = run(QUERY, gpus=Gpus("H100 SXM", 8, 1))
    assert output.status == 0
    table = cells(output)
    assert [row[0] for row in table] == [str(i) for i in range(8)]
    assert {len(row) for row in table} == {13}
    assert {row[2] for row in table} == {"NVIDIA H100 80GB HBM3"}
    assert {row[7] for row in table} == {"81559"}
    assert {tuple(row[11:]) for row in table} == {("P0", "Disabled")}
    assert len({row[1] for row in table}) == 8
    assert cells(run("nvidia-smi --query-gpu=memory.total,index --format=csv,noheader,nounits")) == [
        ["24564", "0"]
    ]


def test_headers_and_units() -> None:
    lines = run("nvidia-smi --query-gpu=index,memory.total,power.limit --format=csv").stdout.splitlines()
    assert lines == ["index, memory.total, power.limit", "0, 24564 MiB, 450.00 W"]


@given(load=st.floats(0, 1), now=st.floats(0, 1e9), name=st.sampled_from(sorted(GPUS)))
def test_numbers_are_plausible(load: float, now: float, name: str) -> None:
    """Whatever the load and the time: percent below 100, memory and power within the card's."""
    seen = Gpus(name, 1, 7).measure(0, load=load, now=now)
    assert 0 <= seen["utilization.gpu"] <= 99
    assert 0 <= seen["utilization.memory"] <= 99
    assert 0 < seen["memory.used"] <= GPUS[name].memory_mib
    assert 30 < seen["temperature.gpu"] < 90
    assert 0 < seen["power.draw"] <= GPUS[name].power_w


def test_numbers_move_with_time_and_load() -> None:
    gpus = Gpus("RTX 4090", 1, 1)
    assert len({run(QUERY, gpus=gpus, now=now).stdout for now in range(0, 40, 5)}) > 1
    idle, busy = (gpus.measure(0, load=load, now=0)["utilization.gpu"] for load in (0.0, 0.5))
    assert busy > idle + 50


@pytest.mark.parametrize(
    ("command", "status", "stdout", "stderr"),
    [
        ("true", 0, "", ""),
        ("", 0, "", ""),
        ("false", 1, "", ""),
        ("echo a b", 0, "a b\n", ""),
        ("hostname", 0, "simulated-instance\n", ""),
        ("timeout 10 true", 0, "", ""),
        ("timeout -k 2 --foreground 10 echo x", 0, "x\n", ""),
        ("LC_ALL=C env A=b exec echo x 2>&1", 0, "x\n", ""),
        ("echo x > /dev/null", 0, "", ""),
        ("rm -rf /", 127, "", "bash: line 1: rm: command not found\n"),
        ("echo 'x", 2, "", "bash: -c: line 1: unexpected EOF while looking for matching quote\n"),
    ],
)
def test_commands(command: str, status: int, stdout: str, stderr: str) -> None:
    assert run(command) == Output(stdout, status, stderr)


def test_wrong_queries_fail_as_the_driver_says() -> None:
    wrong = run("nvidia-smi --query-gpu=index,bogus --format=csv")
    assert wrong.status == 2
    assert wrong.stdout.startswith('Field "bogus" is not a valid field to query.')
    assert run("nvidia-smi --query-gpu=index").status == 1
    assert run("nvidia-smi --what").status == 1


@pytest.mark.parametrize("name", ["RTX 4090", "H100 SXM"])
def test_every_field_that_is_asked_for_is_known(name: str) -> None:
    program = GpuProgram()
    output = run(program.command, gpus=Gpus(name, 2, 1), load=1.0)
    reading = program.read(output.stdout, output.status)
    assert (len(reading.gpus), reading.error) == (2, None)
    assert None not in (reading.gpus[0].throttle, reading.gpus[0].sm_clock_mhz, reading.gpus[0].pcie_gen)


def test_other_forms() -> None:
    assert run("nvidia-smi -L").stdout.startswith("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-")
    assert "Driver Version" in run("nvidia-smi").stdout
    assert run(f"timeout 9 {QUERY} -l 5").repeat_s == 5
    assert run(f"{QUERY} --loop=0.5").repeat_s == 0.5
