"""Which candidate a hash belongs to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, key
from vastproxy.services.routing.policies.ring import WINDOW, Ring, mix
from vastproxy.services.routing.pool import Pool

HASHES = st.integers(0, (1 << 64) - 1)


def ring_of(candidates: list[StandIn]) -> tuple[Ring, Pool]:
    ring, pool = Ring(), Pool(random.Random(1))
    for each in candidates:
        pool.add(each)
        ring.add(each.key)
    return ring, pool


def test_nobody_owns_anything_on_an_empty_ring() -> None:
    ring, pool = ring_of([])
    assert ring.owner(1, pool) is None


@given(st.sets(st.integers(1, 500), min_size=1, max_size=40), st.lists(HASHES, max_size=20))
def test_the_order_of_coming_does_not_matter(ids: set[int], hashes: list[int]) -> None:
    one, pool = ring_of([StandIn(id) for id in sorted(ids)])
    other, _ = ring_of([StandIn(id) for id in sorted(ids, reverse=True)])
    other.add(key(600))
    other.add(key(600))
    other.discard(key(600))
    other.discard(key(600))
    assert len(one) == len(other) == len(ids)
    assert [one.owner(each, pool) for each in hashes] == [other.owner(each, pool) for each in hashes]


@given(st.integers(2, WINDOW), st.lists(HASHES, min_size=1, max_size=30), st.data())
def test_among_a_few_only_what_belonged_to_the_one_that_goes_moves(
    count: int, hashes: list[int], data: st.DataObject
) -> None:
    machines = [StandIn(id) for id in range(count)]
    ring, pool = ring_of(machines)
    before = {each: ring.owner(each, pool) for each in hashes}
    gone = machines[data.draw(st.integers(0, count - 1))]
    ring.discard(gone.key)
    pool.discard(gone.key)
    for each in hashes:
        if before[each] is not gone:
            assert ring.owner(each, pool) is before[each]


def test_among_a_thousand_little_moves() -> None:
    machines = [StandIn(id) for id in range(1000)]
    ring, pool = ring_of(machines)
    before = [ring.owner(each, pool) for each in range(2000)]
    for each in machines[:10]:
        ring.discard(each.key)
        pool.discard(each.key)
    moved = sum(ring.owner(each, pool) is not before[each] for each in range(2000))
    assert moved <= 2000 * 0.03


def test_each_owns_in_proportion_to_its_power() -> None:
    ring, pool = ring_of([StandIn(1, speed=3.0), StandIn(2, speed=1.0), StandIn(3, speed=2.0, weight=0.5)])
    counts: Counter[int] = Counter()
    for each in range(5000):
        owner = ring.owner(mix(each), pool)
        assert owner is not None
        counts[owner.instance_id] += 1
    assert counts[1] / 5000 == pytest.approx(0.6, abs=0.03)
    assert counts[2] == pytest.approx(counts[3], rel=0.15)


def test_the_full_and_the_excluded_own_nothing() -> None:
    ring, pool = ring_of([StandIn(1, limit=0), StandIn(2), StandIn(3)])
    assert {ring.owner(each, pool, (key(3),)) for each in range(50)} == {pool.get(key(2))}


@given(HASHES, HASHES)
def test_different_numbers_mix_to_different_ones(one: int, other: int) -> None:
    assert (mix(one) == mix(other)) is (one == other)
