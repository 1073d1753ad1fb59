"""The pure parts of the comparison of SSH engines."""

import os
from pathlib import Path

import pytest

from bench.ssh_engines import NAMES, WORKS, Meter, as_line, cpu_ticks


@pytest.mark.parametrize("name", ["ssh", "odd (name) 1 2", "a b)"])
def test_the_cpu_of_a_process_is_read_whatever_its_name(name: str) -> None:
    assert cpu_ticks(f"4711 ({name}) S 1 1 1 0 -1 4194304 9 8 7 6 120 30 5 5 20 0 1 0 99\n") == 150


def test_our_own_cpu_is_found_where_the_kernel_keeps_it() -> None:
    spent = cpu_ticks(Path("/proc/self/stat").read_text()) / os.sysconf("SC_CLK_TCK")
    assert spent == pytest.approx(sum(os.times()[:2]), abs=0.5)


def test_a_meter_counts_this_process_and_those_that_help_it() -> None:
    ticks = [0]
    meter = Meter([7], stat_of=lambda pid: f"{pid} (ssh) S" + " 0" * 10 + f" {ticks[0]} {ticks[0]} 0")
    alone = meter.cpu_us(1)
    ticks[0] = 50 * os.sysconf("SC_CLK_TCK")
    assert meter.cpu_us(1) - alone >= 100 * 1e6
    assert meter.wall_s() > 0


def test_a_line_says_who_did_what_at_what_cost() -> None:
    assert as_line("asyncssh", "tokens", {"us_per_token": 31.456, "per_s": 1500.0}) == (
        "asyncssh   tokens     us_per_token=31.46  per_s=1,500.00"
    )


def test_everything_is_measured_over_both_engines_and_openssh() -> None:
    assert NAMES == ("asyncssh", "sshtunnel", "openssh")
    assert all(work.__doc__ for work in WORKS.values())
