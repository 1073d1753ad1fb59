"""The cheapest token first, up to the knee."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.policies.cheapest_first import CheapestFirst, price
from vastproxy.services.routing.policy import NO_HINT


def fill(policy: CheapestFirst, machines: dict[int, StandIn], count: int) -> list[int]:
    found = []
    for _ in range(count):
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        machines[choice.candidate.instance_id].in_flight += 1
        found.append(choice.candidate.instance_id)
    return found


def test_machines_are_filled_in_the_order_of_what_a_token_costs() -> None:
    """The dear hour of a fast machine may be the cheap token."""
    machines = {
        1: StandIn(1, limit=4, hourly_cost=0.4, speed=1.0),
        2: StandIn(2, limit=8, hourly_cost=2.0, speed=6.0),
        3: StandIn(3, limit=4),
    }
    policy = CheapestFirst(random.Random(1), knee=0.5)
    offered(policy, *machines.values())
    assert fill(policy, machines, 8) == [2, 2, 2, 2, 1, 1, 3, 3]
    assert {score.key: score.why for score in policy.scores(NO_HINT, 0.0)} == dict.fromkeys(
        (key(1), key(2), key(3)), "above knee"
    )
    fill(policy, machines, 8)
    assert policy.choose(NO_HINT, 0.0) is None


def test_a_cheap_one_is_taken_again_as_soon_as_it_has_room() -> None:
    machines = {id: StandIn(id, limit=2, hourly_cost=float(id)) for id in range(1, 200)}
    policy = CheapestFirst(random.Random(1), knee=1.0)
    offered(policy, *machines.values())
    assert fill(policy, machines, 20) == [id for id in range(1, 11) for _ in range(2)]
    machines[4].in_flight -= 1
    policy.finished(key(4), 0.0)
    assert fill(policy, machines, 2) == [4, 11]


def test_an_engine_that_queues_is_at_its_knee() -> None:
    machines = {id: StandIn(id, hourly_cost=float(id), waiting=0, waiting_at=0.0) for id in (1, 2)}
    policy = CheapestFirst(random.Random(1))
    offered(policy, *machines.values())
    machines[1].waiting = 1
    assert fill(policy, machines, 1) == [2]


def test_where_no_limit_is_known_the_knee_is_what_it_was_told() -> None:
    machines = {id: StandIn(id, hourly_cost=float(id)) for id in (1, 2)}
    policy = CheapestFirst(random.Random(1), knee_without_limit=3)
    offered(policy, *machines.values())
    assert fill(policy, machines, 4) == [1, 1, 1, 2]


def test_an_excluded_one_keeps_its_place_in_the_order() -> None:
    machines = {id: StandIn(id, hourly_cost=float(id)) for id in range(1, 40)}
    policy = CheapestFirst(random.Random(1))
    offered(policy, *machines.values())
    choice = policy.choose(NO_HINT, 0.0, exclude={key(1)})
    assert choice is not None
    assert choice.candidate.instance_id == 2
    assert fill(policy, machines, 1) == [1]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 19)), max_size=150))
def test_nobody_dearer_is_chosen_while_a_cheaper_one_has_room(steps: list[tuple[bool, int]]) -> None:
    machines = {id: StandIn(id, limit=4, hourly_cost=1.0 + id) for id in range(20)}
    policy = CheapestFirst(random.Random(1), knee=0.5)
    offered(policy, *machines.values())
    for ends, which in steps:
        if ends and machines[which].in_flight:
            machines[which].in_flight -= 1
            policy.finished(key(which), 0.0)
        elif not ends:
            cheapest = next((id for id, each in machines.items() if each.in_flight < 2), None)
            choice = policy.choose(NO_HINT, 0.0)
            if cheapest is not None:
                assert choice is not None
                assert choice.candidate.instance_id == cheapest
            if choice is not None:
                machines[choice.candidate.instance_id].in_flight += 1


def test_a_price_is_dollars_for_work() -> None:
    assert price(StandIn(1, hourly_cost=3.0, speed=2.0, weight=0.5)) == pytest.approx(3.0)
    assert price(StandIn(1)) == float("inf")
