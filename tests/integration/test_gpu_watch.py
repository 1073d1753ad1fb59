"""Watched commands, and GPUs read by one, over OpenSSH's sshd; scripts stand for nvidia-smi."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.helpers.processes import is_running, wait_until
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, connected, echo
from vastproxy.services.backends.gpu_watch import GpuWatch
from vastproxy.services.backends.gpus import Failure, GpuReading, Trouble, signs
from vastproxy.services.errors import ChannelRefused, TunnelLost
from vastproxy.services.tunnels.tunnel import AsyncsshTunnel
from vastproxy.services.tunnels.watch import Watchable

FIXTURES = FilePath(__file__).parent.parent / "fixtures" / "nvidia_smi"
#: Prints a row for whatever is asked, after refusing the fields named in the file `unknown` beside it.
SMI = """\
fields=${1#--query-gpu=}
here=$(dirname "$0")
echo $$ >> "$here/runs"
for name in $(cat "$here/unknown" 2>/dev/null); do
  case ",$fields," in *",$name,"*) echo "Field \\"$name\\" is not a valid field to query."; echo; exit 2;; esac
done
row=$(echo "$fields" | tr ',' '\\n' | sed -e 's/^index$/0/' -e 's/^temperature.gpu$/52/' \\
  -e 's/^clocks_throttle_reasons.active$/0x0000000000000020/' -e 's/^[a-z].*$/[N\\/A]/')
echo $row | sed 's/ /, /g'
"""


@pytest.fixture
def bin_dir(tmp_path: FilePath) -> FilePath:
    """Where programs of the instance are."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


@pytest.fixture
def sshd(tmp_path: FilePath, bin_dir: FilePath) -> Iterator[Sshd]:
    banner = (FIXTURES.parent / "ssh_banner.txt").read_text()
    with Sshd(tmp_path / "sshd", path_dirs=[bin_dir], banner=banner) as server:
        yield server


def install(bin_dir: FilePath, script: str, *, name: str = "nvidia-smi") -> None:
    new = bin_dir / f"{name}.new"
    new.write_text(f"#!/bin/sh\n{script}\n")
    new.chmod(0o755)
    new.rename(bin_dir / name)


async def outcome_of(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as exc:
        return exc


class Readings:
    """What a watch has told, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[GpuReading] = []
        self._news = asyncio.Event()

    def take(self, reading: GpuReading) -> None:
        self.all.append(reading)
        self._news.set()

    async def until(self, fits: Callable[[GpuReading], object]) -> GpuReading:
        async with asyncio.timeout(20):
            while not (found := [reading for reading in self.all if fits(reading)]):
                self._news.clear()
                await self._news.wait()
        return found[0]


@contextlib.asynccontextmanager
async def gpu_watch(tunnel: AsyncsshTunnel, **over: Any) -> AsyncIterator[Readings]:
    """A watch that runs on the tunnel until it is cancelled."""
    readings = Readings()
    watch = GpuWatch("", readings.take, interval_s=0.02, **over)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run(tunnel))
        try:
            yield readings
        finally:
            running.cancel()


# ── watched commands ───────────────────────────────────────────────────────────────────────────


async def test_lines_come_while_the_command_runs_and_its_status_at_the_end(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    """The command goes on only after we have seen its first line."""
    go, lines = tmp_path / "go", []

    def on_line(line: str) -> bool:
        lines.append(line)
        go.touch()
        return True

    async with connected(sshd) as tunnel:
        command = (
            f"echo one; echo noise >&2; while [ ! -e {go} ]; do sleep 0.01; done; printf 'two\\nrest'; exit 3"
        )
        assert await tunnel.watch(command, on_line, silence_s=10) == 3
    assert lines == ["one", "two"]


async def test_a_watched_command_is_killed_when_told_to(sshd: Sshd) -> None:
    """By the answer to a line, and by cancelling; the tunnel lives on."""
    pids: list[int] = []

    def first_only(line: str) -> bool:
        pids.append(int(line))
        return False

    async with connected(sshd) as tunnel:
        assert await tunnel.watch("echo $$; sleep 1000", first_only, silence_s=10) is None
        seen = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            command = "trap '' HUP TERM; echo $$; sleep 1000"

            def keep(line: str) -> bool:
                pids.append(int(line))
                seen.set()
                return True

            watching_it = group.create_task(tunnel.watch(command, keep, silence_s=10))
            await seen.wait()
            watching_it.cancel()
        await asyncio.to_thread(
            wait_until, lambda: not any(map(is_running, pids)), limit_s=5, what="both are killed"
        )
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_silence_ends_it_and_the_tunnel_lives_on(sshd: Sshd, tmp_path: FilePath) -> None:
    async with connected(sshd) as tunnel:
        mark = tmp_path / "pid"
        command = f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 1000"
        for limit_s in (0.3, 2.0, 8.0, 30.0):  # on a busy machine a command may need longer to begin
            with pytest.raises(
                TimeoutError, match=rf"^instance 7 .* silent for {limit_s:g} s and was killed"
            ):
                await tunnel.watch(command, lambda line: True, silence_s=limit_s)
            if mark.exists():
                break
        pid = int(mark.read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


@pytest.mark.parametrize("command", ["yes", "tr '\\0' x < /dev/zero", "cat /dev/zero", "yes >&2"])
async def test_a_flood_is_cut_off_and_the_tunnel_lives_on(sshd: Sshd, command: str) -> None:
    """Endless lines, an endless line, NULs, and all of it on standard error."""
    got = 0

    def on_line(line: str) -> bool:
        nonlocal got
        got += len(line) + 1
        return True

    async with connected(sshd) as tunnel:
        assert await tunnel.watch(command, on_line, silence_s=10, max_output_bytes=100_000) is None
        assert got <= 100_001
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"
    await asyncio.to_thread(wait_until, lambda: not sshd.children(), limit_s=5, what="nothing runs")


async def test_a_dead_connection_ends_it_with_the_reason(sshd: Sshd) -> None:
    seen = asyncio.Event()

    def on_line(line: str) -> bool:
        seen.set()
        return True

    async with connected(sshd) as tunnel, asyncio.TaskGroup() as group:
        watched = group.create_task(outcome_of(tunnel.watch("echo; sleep 1000", on_line, silence_s=60)))
        await seen.wait()
        await asyncio.to_thread(sshd.kill_sessions)
        await asyncio.shield(tunnel.lost)
    assert isinstance(watched.result(), TunnelLost)
    with pytest.raises(TunnelLost):
        await tunnel.watch("true", on_line, silence_s=1)


async def test_closing_the_tunnel_ends_it_inside_too(sshd: Sshd) -> None:
    seen = asyncio.Event()

    def on_line(line: str) -> bool:
        seen.set()
        return True

    async with connected(sshd) as tunnel, asyncio.TaskGroup() as group:
        watched = group.create_task(
            outcome_of(tunnel.watch("echo; trap '' HUP; sleep 1000", on_line, silence_s=60))
        )
        await seen.wait()
        await tunnel.close()
    assert isinstance(watched.result(), TunnelLost)
    assert "closed by vastproxy" in str(watched.result())
    await asyncio.to_thread(wait_until, lambda: not sshd.children(), limit_s=5, what="nothing runs")


async def test_a_server_without_sessions_refuses(tmp_path: FilePath) -> None:
    with Sshd(tmp_path / "sshd", config=["MaxSessions 0"]) as server:
        async with connected(server) as tunnel:
            with pytest.raises(ChannelRefused, match="does not open a session for a command"):
                await tunnel.watch("echo", lambda line: True, silence_s=5)


async def test_a_watched_command_leaves_room_for_others_and_for_streams(sshd: Sshd) -> None:
    """It holds one of ten sessions; forwarded streams are not counted."""
    async with Peer().serve(echo) as server, connected(sshd) as tunnel, asyncio.TaskGroup() as group:
        seen = asyncio.Event()

        def on_line(line: str) -> bool:
            seen.set()
            return True

        watched = group.create_task(tunnel.watch("while :; do echo; sleep 0.01; done", on_line, silence_s=10))
        await seen.wait()
        results = await asyncio.gather(*(tunnel.run(f"echo {n}", timeout_s=20) for n in range(20)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(20)]
        callers = [await tunnel.open(Recorder, server.port) for _ in range(20)]
        for caller in callers:
            caller.stream.close()
        assert not watched.done()
        watched.cancel()


# ── GPUs ───────────────────────────────────────────────────────────────────────────────────────


async def test_one_session_gives_one_reading_after_another(sshd: Sshd, bin_dir: FilePath) -> None:
    install(bin_dir, SMI)
    async with connected(sshd) as tunnel:
        assert isinstance(tunnel, Watchable)
        async with gpu_watch(tunnel) as readings:
            await readings.until(lambda reading: len(readings.all) >= 5)
            starts = sshd.log.count("Starting session: command")
        assert {reading.gpus[0].temperature_c for reading in readings.all} == {52}
        assert {reading.error for reading in readings.all} == {None}
    assert starts == 2, "the first command of the tunnel, and the loop"


async def test_a_driver_of_another_age_is_asked_for_what_it_knows(sshd: Sshd, bin_dir: FilePath) -> None:
    install(bin_dir, SMI)
    (bin_dir / "unknown").write_text("clocks_event_reasons.active reset_status.reset_required\n")
    async with connected(sshd) as tunnel, gpu_watch(tunnel) as readings:
        reading = await readings.until(lambda reading: reading.gpus)
    assert readings.all[0] == reading, "nobody sees a refusal"
    assert [sign.trouble for sign in signs(reading)] == [Trouble.THERMAL]


@pytest.mark.parametrize(
    ("sample", "status", "failure"),
    [
        ("no_devices_rc6", 6, Failure.NO_GPU),
        ("nvml_mismatch_rc18", 18, Failure.MISMATCH),
        ("unknown_error_rc255", 255, Failure.OTHER),
    ],
)
async def test_it_gets_well_when_the_gpus_do(
    sshd: Sshd, bin_dir: FilePath, sample: str, status: int, failure: Failure
) -> None:
    """Each odd sample, then a working program: no new session is needed."""
    install(bin_dir, f"cat {shlex.quote(str(FIXTURES / f'nvidia_smi_{sample}.txt'))}; exit {status}")
    async with connected(sshd) as tunnel, gpu_watch(tunnel) as readings:
        sick = await readings.until(lambda reading: reading.failure)
        assert sick.failure is failure
        install(bin_dir, SMI)
        await readings.until(lambda reading: reading.gpus and not reading.error)
        assert sshd.log.count("Starting session: command") == 2


async def test_without_a_shell_for_the_loop_it_reads_one_by_one(sshd: Sshd, bin_dir: FilePath) -> None:
    """In an image without a working `head` the loop gives no run, but single commands do."""
    install(bin_dir, SMI)
    install(bin_dir, "exit 1", name="head")
    async with connected(sshd) as tunnel, gpu_watch(tunnel) as readings:
        reading = await readings.until(lambda reading: True)
    assert reading.gpus
    assert reading.error is None


@pytest.mark.parametrize("sessions", [0, 1])
async def test_with_hardly_any_sessions(tmp_path: FilePath, bin_dir: FilePath, sessions: int) -> None:
    """None: it says so. One: that is enough, either way."""
    install(bin_dir, SMI)
    with Sshd(tmp_path / "sshd", path_dirs=[bin_dir], config=[f"MaxSessions {sessions}"]) as server:
        async with connected(server) as tunnel, gpu_watch(tunnel) as readings:
            if sessions:
                await readings.until(lambda reading: reading.gpus)
            else:
                refused = await readings.until(lambda reading: reading.error)
                assert "does not open a session" in (refused.error or "")
            assert tunnel.is_alive


@pytest.mark.parametrize("script", ["exec sleep 1000", "trap '' HUP TERM; sleep 1000"])
async def test_a_hung_program_is_told_and_does_not_hold_up_the_tunnel(
    sshd: Sshd, bin_dir: FilePath, script: str
) -> None:
    """One that can be ended inside, and one that cannot."""
    install(bin_dir, script)
    async with connected(sshd) as tunnel:
        async with gpu_watch(tunnel, limit_s=0.2, slack_s=0.3) as readings:
            reading = await readings.until(lambda reading: reading.error)
        assert reading.failure is Failure.HUNG
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_a_program_that_prints_without_end_harms_nothing(sshd: Sshd, bin_dir: FilePath) -> None:
    install(bin_dir, "yes '0, X'")
    async with connected(sshd) as tunnel:
        async with gpu_watch(tunnel) as readings:
            reading = await readings.until(lambda reading: reading.error)
            assert reading.gpus == ()
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_it_ends_with_the_tunnel(sshd: Sshd, bin_dir: FilePath) -> None:
    install(bin_dir, SMI)
    async with connected(sshd) as tunnel:
        readings = Readings()
        async with asyncio.TaskGroup() as group:
            group.create_task(GpuWatch("", readings.take, interval_s=0.02).run(tunnel))
            await readings.until(lambda reading: reading.gpus)
            await asyncio.to_thread(sshd.kill_sessions)
    await asyncio.to_thread(wait_until, lambda: not sshd.children(), limit_s=5, what="nothing runs")
