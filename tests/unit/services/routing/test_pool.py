"""The members of a policy."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, key
from vastproxy.services.routing.pool import COMPARE_ALL, Pool


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.sampled_from([8000, 8001])), max_size=60),
    st.integers(0, 99),
)
def test_it_is_what_it_was_told(changes: list[tuple[bool, int, int]], seed: int) -> None:
    pool, members = Pool(random.Random(seed)), dict[int, StandIn]()
    for comes, id, port in changes:
        one = StandIn(id, port=port)
        if comes:
            assert pool.add(one) is (one.key not in members)
            members[one.key] = one
        else:
            assert pool.discard(one.key) is (members.pop(one.key, None) is not None)
        assert len(pool) == len(members)
        assert {each.key: each for each in pool} == members
        assert all(pool.get(its) is each for its, each in members.items())
        assert pool.of_instance(id) == [
            members[its] for its in sorted(members) if members[its].instance_id == id
        ]
        drawn = pool.draw({key(1)})
        able = [its for its in members if its != key(1)]
        assert len({each.key for each in drawn} & set(able)) == len(drawn)
        most = COMPARE_ALL if len(members) <= COMPARE_ALL else 2
        assert len(drawn) == min(most, len(able))


def test_two_with_a_place_are_found_among_a_thousand() -> None:
    pool = Pool(random.Random(1))
    for id in range(1000):
        pool.add(StandIn(id, limit=0 if id > 2 else None))
    pairs = {frozenset(each.instance_id for each in pool.draw()) for _ in range(60)}
    assert pairs == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}


def test_what_is_due_is_the_share_by_power() -> None:
    pool = Pool(random.Random(1))
    fast, slow = StandIn(1, in_flight=5, speed=3.0), StandIn(2, speed=1.0)
    for each in (fast, slow):
        pool.add(each)
    assert pool.due(fast) == pytest.approx(6 * 0.75)
    slow.in_flight = 2
    assert pool.due(slow) == pytest.approx(8 * 0.25)
    assert pool.due(slow, exact=True) == pool.due(slow)


def test_the_totals_of_many_are_renewed_now_and_then() -> None:
    pool = Pool(random.Random(1))
    machines = [StandIn(id) for id in range(80)]
    for each in machines:
        pool.add(each)
    assert pool.due(machines[0]) == pytest.approx(1 / 80)
    for each in machines:
        each.in_flight = 1
    late = [pool.due(machines[0]) for _ in range(9)]
    assert late == pytest.approx([1 / 80] * 9)
    assert pool.due(machines[0], exact=True) == pytest.approx(81 / 80)
    assert pool.due(machines[0]) == pytest.approx(81 / 80)
