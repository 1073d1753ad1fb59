"""Taking turns."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.balancer import RoundRobin

CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "discard", "pick", "pin", "exclude"]), st.integers(1, 12)), max_size=60
)
IDS = st.sets(st.integers(1, 50), min_size=1, max_size=12)


def turns(ids: set[int], count: int) -> list[int | None]:
    balancer = RoundRobin()
    balancer.set_available(ids)
    return [balancer.pick() for _ in range(count)]


def test_nobody_is_picked_from_nobody() -> None:
    assert RoundRobin().pick() is None


def test_turns_go_in_the_order_of_ids() -> None:
    assert turns({30, 10, 20}, 5) == [10, 20, 30, 10, 20]


@given(IDS, st.integers(0, 100))
def test_loads_differ_by_one_request_at_most(ids: set[int], count: int) -> None:
    counts = Counter(turns(ids, count))
    loads = [counts[id] for id in ids]
    assert max(loads) - min(loads) <= 1


@given(IDS, IDS, st.integers(0, 20))
def test_a_change_of_members_disturbs_nobodys_turn(before: set[int], after: set[int], count: int) -> None:
    """After any change the next one is the first id above the one served last, or the lowest."""
    balancer = RoundRobin()
    balancer.set_available(before)
    last = 0
    for _ in range(count):
        last = balancer.pick() or last
    balancer.set_available(after)
    assert balancer.pick() == min([id for id in after if id > last] or after)


def test_a_pin_wins_while_it_is_available() -> None:
    balancer = RoundRobin()
    balancer.set_available({1, 2, 3})
    assert [balancer.pick(pin=3), balancer.pick(pin=3), balancer.pick(), balancer.pick(pin=9)] == [3, 3, 1, 2]


def test_a_pin_that_was_tried_is_not_tried_again() -> None:
    balancer = RoundRobin()
    balancer.set_available({1, 3})
    assert balancer.pick(pin=3, exclude={3}) == 1


@given(IDS, IDS)
def test_the_excluded_are_never_picked(ids: set[int], exclude: set[int]) -> None:
    balancer = RoundRobin()
    balancer.set_available(ids)
    picked = balancer.pick(exclude=exclude)
    assert picked in ids - exclude if ids - exclude else picked is None


@given(CHANGES)
def test_small_changes_and_a_fresh_start_come_to_the_same(changes: list[tuple[str, int]]) -> None:
    """After any comings and goings the turns are those of one that was told its members anew each time."""
    members: set[int] = set()
    changed, told = RoundRobin(), RoundRobin()
    for change, id in changes:
        if change == "add":
            members.add(id)
            changed.add(id)
        elif change == "discard":
            members.discard(id)
            changed.discard(id)
        told.set_available(members)
        assert len(changed) == len(members)
        assert [each for each in range(13) if each in changed] == sorted(members)
        if change == "pick":
            assert changed.pick() == told.pick()
        elif change == "pin":
            assert changed.pick(pin=id) == told.pick(pin=id)
        elif change == "exclude":
            exclude = {id, id % 3, id % 5}
            assert changed.pick(exclude=exclude) == told.pick(exclude=exclude)


def test_who_is_told_of_twice_is_not_asked_twice_as_often() -> None:
    balancer = RoundRobin()
    for id in (2, 1, 2, 1):
        balancer.add(id)
    balancer.discard(3)
    assert [balancer.pick() for _ in range(4)] == [1, 2, 1, 2]
