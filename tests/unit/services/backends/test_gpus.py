"""One program for reading GPUs, in single runs and in a held session. The loop is run by the real sh."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.gpu_query import MINIMAL_FIELDS, GpuQuery
from vastproxy.services.backends.gpus import (
    Failure,
    Frame,
    Frames,
    Gpu,
    GpuProgram,
    GpuReading,
)
from vastproxy.services.tunnels.command import guarded

NVIDIA = GpuProgram(query=GpuQuery(MINIMAL_FIELDS))
ROW = "0, X, 1, 2, 3, 4\n"


def in_shell(tmp_path: Path, script: str, program: GpuProgram, *, frames: int) -> list[Frame]:
    """What the first runs inside the loop leave when `script` stands for nvidia-smi. The loop is killed then."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o755)
    line = guarded(program.loop(0.001))
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"}
    put_together, found = Frames(program.max_output_bytes), []
    with subprocess.Popen(
        ["/bin/sh", "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for data in process.stdout:
            if (frame := put_together.feed(data.decode("utf-8", "replace").removesuffix("\n"))) is not None:
                found.append(frame)
            if len(found) == frames:
                process.stdin.close()  # as sshd does when we go: the guard kills the loop
                break
    return found


def test_single_runs_end_in_their_own_time() -> None:
    assert guarded(NVIDIA.command) == NVIDIA.command


def test_the_loop_frames_each_run_with_its_status(tmp_path: Path) -> None:
    frames = in_shell(tmp_path, f"printf '{ROW[:-1]}\\n'; exit 15", NVIDIA, frames=3)
    assert [frame.exit_status for frame in frames] == [15, 15, 15]
    for frame in frames:
        reading = NVIDIA.read(frame.stdout, frame.exit_status)
        assert [gpu.name for gpu in reading.gpus] == ["X"]
        assert reading.failure is Failure.LOST


def test_the_loop_survives_what_a_run_may_print(tmp_path: Path) -> None:
    """No final newline, backslashes, percent signs, NULs, quotes; what goes to standard error is dropped."""
    script = r"""printf 'a\\n%%s"'"'"'\000$(false)`\n0, X, 1, 2, 3, 4'; echo noise >&2"""
    [frame] = in_shell(tmp_path, script, NVIDIA, frames=1)
    assert frame.exit_status == 0
    assert frame.stdout.startswith("a\\n%s\"'$(false)`\n")
    assert NVIDIA.read(frame.stdout, 0).gpus == (
        Gpu(0, name="X", utilization_percent=1, memory_used_mib=2, memory_total_mib=3, temperature_c=4),
    )


def test_an_endless_run_is_cut_inside_the_instance(tmp_path: Path) -> None:
    frames = in_shell(tmp_path, "yes", NVIDIA, frames=2)
    assert [frame.exit_status for frame in frames] == [None, None]
    assert all(len(frame.stdout) <= NVIDIA.max_output_bytes for frame in frames)


def test_a_program_that_is_not_there_is_a_status(tmp_path: Path) -> None:
    line = guarded(NVIDIA.loop(0.001)).replace("nvidia-smi", "no-such-program")
    with subprocess.Popen(
        ["/bin/sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.stdin.close()
    assert "@vastproxy-status 127\n" in lines


def test_amd_is_read_with_its_own_programs(tmp_path: Path) -> None:
    program = GpuProgram.of("amd")
    smi = tmp_path / "amd-smi"
    smi.write_text("#!/bin/sh\necho \"[{'gpu': 0, 'usage': {'gfx_activity': 7}}]\" | tr \"'\" '\"'\n")
    smi.chmod(0o755)
    [frame] = in_shell(tmp_path, "", program, frames=1)
    assert program.read(frame.stdout, frame.exit_status) == GpuReading((Gpu(0, utilization_percent=7),))
    smi.rename(tmp_path / "gone")
    [frame] = in_shell(tmp_path, "", program, frames=1)
    assert program.read(frame.stdout, frame.exit_status).failure is Failure.NOT_INSTALLED


@pytest.mark.parametrize("arch", ["nvidia", "", None])
def test_whatever_is_not_amd_is_asked_for_nvidia_smi(arch: str | None) -> None:
    assert GpuProgram.of(arch) == GpuProgram()
    assert GpuProgram.of(arch, limit_s=3).command.startswith("timeout 3 env LC_ALL=C nvidia-smi ")


def test_amds_programs_get_the_time_that_they_need() -> None:
    assert GpuProgram.of("amd", limit_s=3).limit_s == 20
    assert GpuProgram.of("amd", limit_s=30).command.startswith("timeout 30 ")


def test_a_refusal_is_remembered_and_nothing_else_is() -> None:
    program = GpuProgram()
    refusal = 'Field "temperature.memory" is not a valid field to query.\n'
    smaller = program.after(program.read(refusal, 2), refusal)
    assert "temperature.memory" not in smaller.query.fields
    assert smaller.after(smaller.read("", 9), "") == smaller
    assert NVIDIA.after(NVIDIA.read(refusal, 2), refusal) is NVIDIA
    amd = GpuProgram.of("amd")
    assert amd.after(amd.read(refusal, 2), refusal) is amd


def test_the_last_line_of_a_cut_run_does_not_count() -> None:
    """`head` cuts anywhere, and half a number is a wrong number."""
    frames = Frames(1000)
    for line in ("0, X, 1, 2, 3, 42", "1, X, 1, 2, 3, 4"):
        frames.feed(line)
    frame = frames.feed("@vastproxy-end")
    assert frame is not None
    assert [gpu.index for gpu in NVIDIA.read(frame.stdout, frame.exit_status).gpus] == [0]


def test_a_shell_that_cannot_run_the_loop_is_told_from_a_program_that_says_nothing() -> None:
    assert Frame("\n", None).is_mute
    assert not Frame("", 127).is_mute
    assert not Frame("0, X", None).is_mute


def test_too_long_a_run_keeps_what_came_last() -> None:
    frames = Frames(50)
    for line in ("x" * 40, "y" * 40):
        assert frames.feed(line) is None
    for line in (ROW.strip(), "@vastproxy-status 0"):
        frames.feed(line)
    frame = frames.feed("@vastproxy-end")
    assert frame is not None
    assert "x" not in frame.stdout
    assert len(frame.stdout) <= 50


lines = st.sampled_from(
    ["@vastproxy-end", "@vastproxy-status 0", "@vastproxy-status 999", ROW.strip(), ""]
) | st.text(st.characters(exclude_characters="\n"), max_size=30)


@given(st.lists(lines))
def test_after_any_lines_the_next_run_is_read(before: list[str]) -> None:
    """Resynchronised by the end mark, whatever was interleaved or cut before."""
    frames = Frames(1000)
    for line in before:
        frame = frames.feed(line)
        assert frame is None or len(frame.stdout) <= 1000
    frames.feed("@vastproxy-end")
    for line in ("", ROW.strip(), "", "@vastproxy-status 0\r"):
        assert frames.feed(line) is None
    assert frames.feed("@vastproxy-end\r") == Frame(f"\n{ROW}\n", 0)
