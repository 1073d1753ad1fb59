"""The less loaded of two, for its speed."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, offered
from vastproxy.services.routing.policies.least_loaded import FRESH_S, LeastLoaded, lightest, load
from vastproxy.services.routing.policy import NO_HINT


def served(speeds: list[float], *, clients: int, seed: int, answers: int = 6000) -> Counter[int]:
    """Requests that each of some machines answers for so many clients that ask again at once. A machine shares its
    speed among all that it has."""
    rng = random.Random(seed)
    policy = LeastLoaded(random.Random(seed))
    machines = [StandIn(id, speed=speed) for id, speed in enumerate(speeds)]
    offered(policy, *machines)
    counts: Counter[int] = Counter()
    for number in range(answers + clients):
        if number >= clients:
            busy = [each for each in machines if each.in_flight]
            done = rng.choices(busy, [each.speed for each in busy])[0]
            done.in_flight -= 1
            counts[done.instance_id] += 1
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        machines[choice.candidate.instance_id].in_flight += 1
    return counts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("speeds", [[1.0, 0.5], [1.0, 1.0, 0.5], [1.0] * 7 + [0.5]])
def test_who_is_half_as_fast_gets_about_half(speeds: list[float], seed: int) -> None:
    counts = served(speeds, clients=12 * len(speeds), seed=seed)
    fast = sum(counts[id] for id in range(len(speeds) - 1)) / (len(speeds) - 1)
    assert counts[len(speeds) - 1] / fast == pytest.approx(0.5, abs=0.08)


def test_requests_in_flight_follow_speed() -> None:
    machines = [StandIn(1, speed=4.0), StandIn(2, speed=1.0)]
    policy = LeastLoaded(random.Random(1))
    offered(policy, *machines)
    for _ in range(50):
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        machines[choice.candidate.instance_id - 1].in_flight += 1
    assert [each.in_flight for each in machines] == [40, 10]


def test_slow_start_counts_as_less_speed() -> None:
    assert load(StandIn(1, weight=0.1)) == pytest.approx(10 * load(StandIn(2)))
    assert load(StandIn(1, weight=0.0)) < float("inf")


@pytest.mark.parametrize(
    ("ages", "first"),
    [
        ((0.0, 0.0), False),
        ((0.0, FRESH_S), False),
        ((0.0, FRESH_S + 1), True),
        ((FRESH_S + 1, 0.0), True),
    ],
)
def test_queues_count_only_where_both_are_fresh(ages: tuple[float, float], first: bool) -> None:
    """The first has less in flight but a queue."""
    now = 1000.0
    one = StandIn(1, in_flight=1, waiting=9, waiting_at=now - ages[0])
    other = StandIn(2, in_flight=2, waiting=0, waiting_at=now - ages[1])
    assert (lightest([one, other], now) is one) is first
    other.waiting = None
    assert lightest([one, other], now) is one


@given(st.integers(5, 60), st.integers(0, 99))
def test_of_many_two_different_ones_are_compared(count: int, seed: int) -> None:
    policy = LeastLoaded(random.Random(seed))
    offered(policy, *(StandIn(id, in_flight=id) for id in range(count)))
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert len(dict(choice.scores)) == 2
    assert choice.candidate.key == min(dict(choice.scores))
    scores = policy.scores(NO_HINT, 0.0)
    assert [each.score for each in scores] == [id + 1 for id in range(count)]
