"""One task for all connections: when it runs, whom it asks, and that none of them troubles the others."""

import asyncio
import time
from dataclasses import dataclass, field

import pytest

from vastproxy.services.tunnels.liveness import Question
from vastproxy.services.tunnels.sweeper import Sweeper, clock


@dataclass(eq=False)
class FakePulse:
    received: int = 0
    is_busy: bool = False
    sent_again: int = 0
    where: Question = Question.ARRIVED
    searches: int = 0
    events: list[str] = field(default_factory=list)
    readings: list[bool] = field(default_factory=list)
    lost: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def retransmits(self, *, is_asked: bool) -> int:
        self.readings.append(is_asked)
        return self.sent_again

    def question(self) -> Question:
        self.searches += 1
        return self.where

    def ask(self) -> None:
        self.events.append("asked")

    def doubt(self, is_doubted: bool) -> None:
        self.events.append("doubted" if is_doubted else "believed")

    def die(self, silent_s: float) -> None:
        self.events.append(f"dead after {silent_s:g} s")
        self.lost.set_result(None)


class Hands:
    """A sweeper whose clock a test turns, with connections under it."""

    def __init__(self, *pulses: FakePulse) -> None:
        self.now = 1000.0
        self.sweeper = Sweeper(5, 2, now=lambda: self.now)
        for pulse in pulses:
            self.sweeper.add(pulse, pulse.lost)

    async def after(self, seconds: float) -> None:
        """Looks are made in time until then."""
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            await self.sweeper.sweep()
            await asyncio.sleep(0)


async def test_what_is_judged_is_done() -> None:
    silent, living = FakePulse(is_busy=True), FakePulse(is_busy=True)
    hands = Hands(silent, living)
    await hands.after(3)
    assert silent.events == living.events == ["asked", "doubted"]
    living.received += 1
    await hands.after(0.5)
    assert living.events == ["asked", "doubted", "believed"]
    await hands.after(7.5)
    assert silent.events == ["asked", "doubted", "asked", "dead after 11 s"]
    assert len(hands.sweeper) == 1
    living.lost.set_result(None)
    await asyncio.sleep(0)


async def test_tcp_is_told_whether_a_question_is_open() -> None:
    pulse = FakePulse()
    hands = Hands(pulse)
    await hands.after(5.5)
    assert pulse.readings == [False] * 10 + [True]
    await hands.sweeper.aclose()


async def test_a_question_is_looked_for_until_it_has_arrived() -> None:
    """And only then: a look at an idle connection, and at one that owes an answer, costs nothing."""
    pulse = FakePulse(is_busy=True, where=Question.MOVING)
    hands = Hands(pulse)
    await hands.after(1)
    assert (pulse.events, pulse.searches) == (["asked"], 0)
    await hands.after(60)
    assert (pulse.events, pulse.searches) == (["asked"], 120)
    pulse.where = Question.ARRIVED
    await hands.after(9.5)
    assert (pulse.events, pulse.searches) == (["asked", "asked", "doubted", "asked"], 121)
    await hands.after(0.5)
    assert pulse.events[-1] == "dead after 71 s"


async def test_a_machine_that_slept_accuses_nobody() -> None:
    """Hours later: everybody is asked, and dies only if the answer is not there after the usual time."""
    silent, living = FakePulse(is_busy=True), FakePulse(is_busy=True)
    hands = Hands(silent, living)
    await hands.after(2)
    hands.now += 7200
    await hands.sweeper.sweep()
    assert silent.events == living.events == ["asked", "asked"]
    living.received += 1
    await hands.after(2)
    assert silent.events == ["asked", "asked", "doubted"]
    assert living.events == ["asked", "asked", "asked"]
    await hands.sweeper.aclose()


async def test_one_that_fails_troubles_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakePulse):
        def ask(self) -> None:
            raise RuntimeError("broken")

    broken, sound = Broken(), FakePulse()
    hands = Hands(broken, sound)
    await hands.after(5)
    assert sound.events == ["asked"]
    assert "broken" in caplog.text
    await hands.sweeper.aclose()


async def test_one_that_ends_in_the_course_of_a_look_is_not_looked_at() -> None:
    """Others have their turn in the middle of many."""
    many = [FakePulse() for _ in range(600)]
    hands = Hands(*many)
    async with asyncio.TaskGroup() as group:
        group.create_task(hands.sweeper.sweep())
        await asyncio.sleep(0)
        assert len(many[255].readings) == 1
        assert many[256].readings == []
        many[599].lost.set_result(None)
    assert len(many[598].readings) == 1
    assert many[599].readings == []
    await hands.sweeper.aclose()


def sweepers_task() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "signs of life" in task.get_name()]


async def test_the_task_runs_while_there_are_connections_and_no_longer() -> None:
    sweeper = Sweeper(0.04, 2, name="engine")
    assert sweepers_task() == []
    one, other = FakePulse(), FakePulse()
    for _ in range(3):
        one.lost, other.lost = FakePulse().lost, FakePulse().lost
        sweeper.add(one, one.lost)
        sweeper.add(other, other.lost)
        assert sweepers_task() == ["engine/signs of life"]
        one.lost.set_result(None)
        await asyncio.sleep(0)
        assert sweepers_task() == ["engine/signs of life"]
        other.lost.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sweepers_task() == []


@pytest.mark.virtual_time
async def test_the_task_looks_by_itself() -> None:
    """In time, whatever the machine does meanwhile: looks that come late conclude nothing."""
    sweeper, pulse = Sweeper(5, 2, now=asyncio.get_running_loop().time), FakePulse()
    sweeper.add(pulse, pulse.lost)
    await pulse.lost
    assert pulse.events == ["asked", "doubted", "asked", "dead after 15 s"]


async def test_after_its_end_nobody_is_watched() -> None:
    sweeper, pulse = Sweeper(0.04, 2), FakePulse()
    sweeper.add(pulse, pulse.lost)
    await sweeper.aclose()
    assert sweepers_task() == []
    sweeper.add(FakePulse(), pulse.lost)
    assert (len(sweeper), sweepers_task()) == (0, [])


def test_the_clock_goes_on() -> None:
    before, monotonic = clock(), time.monotonic()
    assert clock() >= before
    assert clock() >= monotonic - 1, "it counts what the machine slept, and nothing less than the usual clock"
