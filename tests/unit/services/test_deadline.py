"""Deadlines, in virtual time: they expire when they should, once, and cost at most one timer."""

import asyncio
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.loop import AutojumpLoop
from vastproxy.services.deadline import Deadline, Silence

pytestmark = pytest.mark.virtual_time


class Counting(AutojumpLoop):
    """Counts the timers that are set. Runs its callbacks in order of time."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = 0

    def call_at(self, *args: object, **options: object) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*args, **options)  # type: ignore[arg-type]


class Watched:
    """A deadline on the running loop that writes down when it expired."""

    def __init__(self, on_expired: Callable[[], None] = lambda: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_expired = on_expired
        self.expired_at: list[float] = []
        self.deadline = Deadline(self._loop, self._note)

    def _note(self) -> None:
        self.expired_at.append(self._loop.time())
        self._on_expired()


async def test_it_expires_once() -> None:
    watched = Watched()
    assert not watched.deadline.is_set
    watched.deadline.after(5)
    assert watched.deadline.is_set
    await asyncio.sleep(100)
    assert watched.expired_at == [5]
    assert not watched.deadline.is_set


async def test_it_can_be_moved_away_and_nearer() -> None:
    watched = Watched()
    watched.deadline.after(5)
    await asyncio.sleep(4)
    watched.deadline.after(10)
    await asyncio.sleep(4)
    assert watched.expired_at == []
    watched.deadline.after(1)
    await asyncio.sleep(100)
    assert watched.expired_at == [9]


async def test_cleared_it_does_not_expire_and_can_be_set_again() -> None:
    watched = Watched()
    watched.deadline.after(5)
    watched.deadline.clear()
    assert not watched.deadline.is_set
    await asyncio.sleep(10)
    watched.deadline.after(1)
    await asyncio.sleep(10)
    assert watched.expired_at == [11]


async def test_it_can_be_set_again_when_it_expires() -> None:
    watched = Watched(lambda: watched.deadline.after(2) if len(watched.expired_at) < 3 else None)
    watched.deadline.after(1)
    await asyncio.sleep(100)
    assert watched.expired_at == [1, 3, 5]


@pytest.mark.parametrize("closes_twice", [False, True])
async def test_closed_it_leaves_nothing_in_the_loop_and_is_not_set_again(closes_twice: bool) -> None:
    watched = Watched()
    watched.deadline.after(5)
    watched.deadline.close()
    if closes_twice:
        watched.deadline.close()
    assert not watched.deadline.is_set
    watched.deadline.after(5)
    await asyncio.sleep(10)
    assert watched.expired_at == []


@pytest.mark.parametrize("kind", [Deadline, Silence])
async def test_closed_it_holds_nobody(kind: type[Deadline] | type[Silence]) -> None:
    """Whoever has a deadline is called by it: together they would be garbage that only a collection finds."""

    class Owner:
        def __init__(self) -> None:
            self.limit = kind(asyncio.get_running_loop(), self.told)

        def told(self) -> None:
            """Not called here."""

    owner = Owner()
    gone = weakref.ref(owner)
    limit = owner.limit
    limit.close()
    del owner
    assert gone() is None


async def test_closed_when_it_expires() -> None:
    watched = Watched(lambda: watched.deadline.close())
    watched.deadline.after(1)
    await asyncio.sleep(10)
    assert watched.expired_at == [1]


def on(loop: AutojumpLoop, steps: list[tuple[float, str, float]]) -> list[float]:
    """Do the steps – wait, then do that with so many seconds – and return when the deadline expired."""

    async def run() -> list[float]:
        watched = Watched()
        for pause_s, what, seconds in steps:
            await asyncio.sleep(pause_s)
            if what == "after":
                watched.deadline.after(seconds)
            else:
                getattr(watched.deadline, what)()
        await asyncio.sleep(1000)
        return watched.expired_at

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(run())


def expected(steps: list[tuple[float, str, float]]) -> list[float]:
    """The same with nothing but arithmetic. At the same moment the deadline comes before the step."""
    now, at, expired, closed = 0.0, float("inf"), [], False
    for pause_s, what, seconds in [*steps, (1000.0, "clear", 0.0)]:
        now += pause_s
        if at <= now:
            expired.append(at)
            at = float("inf")
        closed = closed or what == "close"
        at = now + seconds if what == "after" and not closed else float("inf")
    return expired


# Whole pauses and half seconds: no deadline falls on the moment of a step, where the order would matter.
STEPS = st.lists(
    st.tuples(
        st.integers(0, 6).map(float),
        st.sampled_from(["after"] * 6 + ["clear"] * 2 + ["close"]),
        st.integers(0, 9).map(lambda n: n + 0.5),
    ),
    max_size=12,
)


@given(STEPS)
def test_it_expires_exactly_when_a_timer_that_is_always_reset_would(
    steps: list[tuple[float, str, float]],
) -> None:
    assert on(AutojumpLoop(), steps) == expected(steps)


def test_moving_it_away_costs_no_timer() -> None:
    """A thousand tokens, one timer while they come."""
    loop = Counting()
    assert on(loop, [(0.01, "after", 100.0)] * 1000) == [pytest.approx(110)]
    sleeps = 1001
    assert loop.timers - sleeps == 2  # the first, and the rest of the time when that one was too early


# ── silence ────────────────────────────────────────────────────────────────────────────────────


class Listening:
    """A limit to silence on the running loop that writes down when it was met."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.silent_at: list[float] = []
        self.silence = Silence(self._loop, lambda: self.silent_at.append(self._loop.time()))


async def test_silence_from_the_beginning_is_met_on_time_and_once() -> None:
    listening = Listening()
    listening.silence.after(8)
    await asyncio.sleep(100)
    assert listening.silent_at == [8]


@given(st.lists(st.floats(0.01, 7.9), max_size=30))
@settings(max_examples=50, deadline=None)
def test_silence_is_met_after_the_limit_and_at_most_an_eighth_later(pauses: list[float]) -> None:
    async def scene() -> None:
        listening = Listening()
        listening.silence.after(8)
        for pause in pauses:
            await asyncio.sleep(pause)
            listening.silence.heard = True
        last = asyncio.get_running_loop().time()
        assert listening.silent_at == []
        await asyncio.sleep(100)
        (silent_at,) = listening.silent_at
        assert last + 8 - 1e-6 <= silent_at <= last + 9 + 1e-6

    with asyncio.Runner(loop_factory=AutojumpLoop) as runner:
        runner.run(scene())


@pytest.mark.parametrize("how", ["clear", "close"])
async def test_no_limit_is_met_after_the_end(how: str) -> None:
    listening = Listening()
    listening.silence.after(8)
    await asyncio.sleep(4)
    getattr(listening.silence, how)()
    await asyncio.sleep(100)
    assert listening.silent_at == []


async def test_a_new_limit_forgets_what_was_heard_before() -> None:
    listening = Listening()
    listening.silence.after(8)
    listening.silence.heard = True
    listening.silence.after(16)
    await asyncio.sleep(100)
    assert listening.silent_at == [16]
