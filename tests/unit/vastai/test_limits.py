"""`Limiter`: calls to one endpoint keep their distance, whoever makes them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.unit.vastai.support import Clock
from vastproxy.vastai.limits import MARGIN, Limit, Limiter


def limiter(clock: Clock, scale: float = 1.0, **limits: Limit) -> Limiter:
    return Limiter(scale=scale, limits=limits, clock=clock, sleep=clock.sleep)


def test_the_first_call_goes_at_once_and_the_second_waits() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(2.0))
    for _ in range(2):
        with limits.turn("a"):
            pass
    assert clock.slept == [pytest.approx(2.0 * MARGIN)]


def test_the_distance_runs_from_the_end_of_a_call() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(2.0))
    with limits.turn("a"):
        clock.now += 10
    with limits.turn("a"):
        pass
    assert clock.slept == [pytest.approx(2.0 * MARGIN)]


def test_time_that_has_passed_counts() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(2.0))
    with limits.turn("a"):
        pass
    clock.now += 60
    with limits.turn("a"):
        pass
    assert clock.slept == []


def test_endpoints_do_not_wait_for_each_other() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(2.0), b=Limit(2.0))
    with limits.turn("a"), limits.turn("b"):
        pass
    assert clock.slept == []


def test_an_unknown_endpoint_has_a_limit_too() -> None:
    clock = Clock()
    limits = limiter(clock)
    for _ in range(2):
        with limits.turn("new"):
            pass
    assert clock.slept == [pytest.approx(MARGIN)]


def test_several_calls_in_a_period() -> None:
    """Ten per minute means ten at once and then a pause, not one every six seconds."""
    clock = Clock()
    limits = limiter(clock, a=Limit(60.0, calls=3))
    for _ in range(4):
        with limits.turn("a"):
            clock.now += 1
    assert clock.slept == [pytest.approx(60 * MARGIN - 2)]


def test_scale_stretches_and_zero_switches_off() -> None:
    clock = Clock()
    limits = limiter(clock, scale=3.0, a=Limit(1.0))
    for _ in range(2):
        with limits.turn("a"):
            pass
    assert clock.slept == [pytest.approx(3 * MARGIN)]
    off = limiter(clock, scale=0, a=Limit(1.0))
    with off.turn("a"), off.turn("a"):
        pass
    assert len(clock.slept) == 1


def test_threads_call_one_at_a_time_with_the_distance_between_them() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(1.0))
    lock = threading.Lock()
    inside = 0
    starts: list[float] = []

    def call() -> None:
        nonlocal inside
        with limits.turn("a"):
            with lock:
                inside += 1
                assert inside == 1
                starts.append(clock())
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call) for _ in range(24)]:
            done.result(timeout=20)
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert len(gaps) == 23
    assert min(gaps) >= MARGIN - 1e-6


def test_who_comes_first_is_served_first() -> None:
    """Waiting callers are served in the order in which they came."""
    clock = Clock()
    limits = limiter(clock, a=Limit(1.0))
    served: list[int] = []
    threads: list[threading.Thread] = []

    def call(number: int) -> None:
        with limits.turn("a"):
            served.append(number)

    with limits.turn("a"):
        for number in range(6):
            threads.append(threading.Thread(target=call, args=(number,)))
            threads[-1].start()
            for _ in range(20_000):
                if limits.waiting("a") == number + 2:
                    break
                threads[-1].join(timeout=0.001)
            assert limits.waiting("a") == number + 2
    for thread in threads:
        thread.join(timeout=20)
    assert served == list(range(6))
    assert (limits.waiting("a"), limits.waiting("other")) == (0, 0)


def test_a_call_that_fails_passes_its_turn_on() -> None:
    clock = Clock()
    limits = limiter(clock, a=Limit(1.0))
    with pytest.raises(ValueError, match="boom"), limits.turn("a"):
        raise ValueError("boom")
    with limits.turn("a"):
        pass
    assert clock.slept == [pytest.approx(MARGIN)]
