"""Keeping a reading fresh: tunnels in memory, a shell that follows a script, and virtual time."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.helpers.memory import Inside, MemoryTunnel
from vastproxy.services.backends.gpu_course import NOT_INSTALLED_REST_S
from vastproxy.services.backends.gpu_query import MINIMAL_FIELDS, GpuQuery
from vastproxy.services.backends.gpu_watch import INTERVAL_S, GpuWatch
from vastproxy.services.backends.gpus import Failure, GpuReading
from vastproxy.services.errors import ChannelRefused, TunnelLost
from vastproxy.services.tunnels.base import CommandResult, Path, SshAddress
from vastproxy.services.tunnels.watch import MAX_OUTPUT_BYTES, OnLine, Watchable

pytestmark = pytest.mark.virtual_time
AT = SshAddress("192.0.2.1", 22, Path.DIRECT)


def row(command: str, index: int = 0) -> str:
    """What nvidia-smi prints for the query in this command: a GPU that knows nothing of itself."""
    fields = command.partition("--query-gpu=")[2].partition(" ")[0].split(",")
    return ", ".join([str(index), *["[N/A]"] * (len(fields) - 1)]) + "\n"


@dataclass
class Machine:
    """`answer` makes the output and status of a run from its command; raise in it what the tunnel would."""

    answer: Callable[[str], tuple[str, int]] = lambda command: (row(command), 0)
    runs: list[tuple[float, str]] = field(default_factory=list)
    held: int = 0

    def run(self, command: str) -> tuple[str, int]:
        self.runs.append((asyncio.get_running_loop().time(), command))
        return self.answer(command)


class PlainTunnel(MemoryTunnel):
    """Runs one command at a time."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(Inside(), AT)
        self.machine = machine

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        stdout, status = self.machine.run(command)
        return CommandResult(status, stdout, "")


class HoldingTunnel(PlainTunnel):
    """Also holds a session in which the loop runs. `ends_after`: the loop's shell dies after so many runs."""

    def __init__(self, machine: Machine, *, ends_after: int | None = None) -> None:
        super().__init__(machine)
        self.ends_after = ends_after

    async def watch(
        self,
        command: str,
        on_line: OnLine,
        *,
        silence_s: float,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> int | None:
        assert silence_s > INTERVAL_S
        self.machine.held += 1
        try:
            runs = 0
            while self.ends_after is None or runs < self.ends_after:
                stdout, status = self.machine.run(command)
                for line in [*stdout.splitlines(), f"@vastproxy-status {status}", "@vastproxy-end"]:
                    if not on_line(line):
                        return None
                runs += 1
                done, _ = await asyncio.wait({self.lost}, timeout=INTERVAL_S)
                if done:
                    raise TunnelLost("gone")
            return 1
        finally:
            self.machine.held -= 1


class Bench:
    """A watch over one tunnel."""

    def __init__(self, tunnel: PlainTunnel, *, arch: str = "nvidia") -> None:
        self.tunnel = tunnel
        self.readings: list[GpuReading] = []
        self.watch = GpuWatch(arch, self.readings.append, rng=random.Random(1))

    async def run_for(self, seconds: float) -> None:
        """Watch for so long, then end the tunnel."""
        async with asyncio.TaskGroup() as group:
            running = group.create_task(self.watch.run(self.tunnel))
            await asyncio.sleep(seconds)
            assert not running.done()
            self.tunnel.end(None)
        assert self.tunnel.machine.held == 0


def test_the_tunnels_of_the_tests_are_what_they_claim_to_be() -> None:
    async def make() -> tuple[bool, bool]:
        return isinstance(PlainTunnel(Machine()), Watchable), isinstance(HoldingTunnel(Machine()), Watchable)

    assert asyncio.run(make()) == (False, True)


async def test_one_held_session_gives_all_readings() -> None:
    machine = Machine()
    bench = Bench(HoldingTunnel(machine))
    await bench.run_for(100)
    assert [at for at, _ in machine.runs] == [0, 15, 30, 45, 60, 75, 90]
    assert {command for _, command in machine.runs} == {bench.watch.course.program.loop(INTERVAL_S)}
    assert len(bench.readings) == 7
    assert all(reading.gpus and not reading.error for reading in bench.readings)


async def test_without_held_sessions_there_is_one_command_per_reading() -> None:
    machine = Machine()
    bench = Bench(PlainTunnel(machine))
    await bench.run_for(100)
    assert [at for at, _ in machine.runs] == [0, 15, 30, 45, 60, 75, 90]
    assert {command for _, command in machine.runs} == {bench.watch.course.program.command}
    assert len(bench.readings) == 7


@pytest.mark.parametrize("kind", [PlainTunnel, HoldingTunnel])
async def test_an_old_driver_is_asked_for_less_at_once_and_for_ever(kind: type[PlainTunnel]) -> None:
    """Nobody sees the refusals, and the next tunnel begins with what was learnt."""
    unknown = ("clocks_event_reasons.active", "reset_status.reset_required")

    def answer(command: str) -> tuple[str, int]:
        refused = [name for name in unknown if name in command]
        return (f'Field "{refused[0]}" is not a valid field to query.\n', 2) if refused else (row(command), 0)

    machine = Machine(answer)
    bench = Bench(kind(machine))
    await bench.run_for(20)
    assert [round(at) for at, _ in machine.runs] == [0, 0, 0, 15]
    assert len(bench.readings) == 2
    assert all(reading.gpus for reading in bench.readings)
    assert "clocks_throttle_reasons.active" in machine.runs[-1][1]
    bench.tunnel = kind(machine)
    await bench.run_for(1)
    assert len(bench.readings) == 3
    assert len(machine.runs) == 5


async def test_a_driver_that_refuses_everything_is_not_asked_in_a_loop() -> None:
    machine = Machine(lambda command: ('Field "index" is not a valid field to query.\n', 2))
    bench = Bench(PlainTunnel(machine))
    await bench.run_for(100)
    assert len(machine.runs) < 10
    assert bench.watch.course.program.query == GpuQuery(MINIMAL_FIELDS, 1)
    assert bench.readings[-1].failure is Failure.UNKNOWN_FIELD


async def test_a_shell_that_does_not_run_the_loop_gets_single_commands() -> None:
    machine = Machine()
    bench = Bench(HoldingTunnel(machine, ends_after=0))
    await bench.run_for(20)
    assert [command for _, command in machine.runs] == [bench.watch.course.program.command] * 2
    assert len(bench.readings) == 2


async def test_a_loop_in_which_nothing_works_gets_single_commands() -> None:
    """Runs with neither output nor status, as without `head`."""

    class Mute(HoldingTunnel):
        async def watch(
            self,
            command: str,
            on_line: OnLine,
            *,
            silence_s: float,
            max_output_bytes: int = MAX_OUTPUT_BYTES,
        ) -> int | None:
            assert on_line("")
            assert not on_line("@vastproxy-end")
            return None

    bench = Bench(Mute(Machine()))
    await bench.run_for(1)
    assert [reading.error for reading in bench.readings] == [None]
    assert not bench.watch.course.holds


async def test_a_loop_that_dies_after_some_readings_is_started_again() -> None:
    machine = Machine()
    bench = Bench(HoldingTunnel(machine, ends_after=2))
    await bench.run_for(100)
    assert bench.watch.course.holds
    assert len(bench.readings) >= 3
    assert all(at % INTERVAL_S == 0 for at, _ in machine.runs)


class Refusing(HoldingTunnel):
    """sshd holds no session for us, and runs no command either while `closed`."""

    closed = True

    async def watch(
        self,
        command: str,
        on_line: OnLine,
        *,
        silence_s: float,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> int | None:
        self.machine.run(command)
        raise ChannelRefused("no more sessions")

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        result = await super().run(command, timeout_s=timeout_s)
        if self.closed:
            raise ChannelRefused("no more sessions")
        return result


async def test_when_no_session_is_to_be_had_it_reads_one_by_one_and_says_so() -> None:
    machine = Machine()
    bench = Bench(tunnel := Refusing(machine))
    tunnel.closed = False
    await bench.run_for(40)
    assert [at for at, _ in machine.runs] == [0, 15, 30]
    assert len(bench.readings) == 2
    bench.tunnel = Refusing(machine)
    machine.runs.clear()
    await bench.run_for(1000)
    assert len(machine.runs) < 10, "it backs off"
    assert "no more sessions" in (bench.readings[-1].error or "")


async def test_a_hung_program_is_reported_and_left_alone() -> None:
    def hang(command: str) -> tuple[str, int]:
        raise TimeoutError("silent")

    for kind in (PlainTunnel, HoldingTunnel):
        machine = Machine(hang)
        bench = Bench(kind(machine))
        await bench.run_for(1000)
        assert 3 <= len(machine.runs) <= 8
        assert {reading.failure for reading in bench.readings} == {Failure.HUNG}
        assert "does not answer" in (bench.readings[0].error or "")
        machine.answer = lambda command: (row(command), 0)
        bench.tunnel = kind(machine)
        await bench.run_for(1)
        assert bench.readings[-1].gpus, "a new tunnel tries at once"


@pytest.mark.parametrize(("status", "least_s"), [(124, 60.0), (127, NOT_INSTALLED_REST_S)])
async def test_a_loop_without_hope_does_not_go_on(status: int, least_s: float) -> None:
    machine = Machine(lambda command: ("", status))
    bench = Bench(HoldingTunnel(machine))
    await bench.run_for(least_s - 1)
    assert len(machine.runs) == 1
    assert len(bench.readings) == 1
    assert bench.readings[0].error


async def test_amd_has_its_own_program() -> None:
    machine = Machine(lambda command: ('[{"gpu": 0, "usage": {"gfx_activity": 5}}]', 0))
    bench = Bench(HoldingTunnel(machine), arch="amd")
    await bench.run_for(1)
    assert "amd-smi" in machine.runs[0][1]
    assert bench.readings[0].gpus[0].utilization_percent == 5


async def test_it_ends_with_the_tunnel_and_when_cancelled() -> None:
    tunnel = HoldingTunnel(Machine())
    watch = GpuWatch("", lambda reading: None)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run(tunnel))
        await asyncio.sleep(1)
        assert tunnel.machine.held == 1
        running.cancel()
    assert tunnel.machine.held == 0
    tunnel.end(TunnelLost("gone"))
    await watch.run(tunnel)
    assert len(tunnel.machine.runs) == 1
