"""Everybody in turn."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
from vastproxy.services.routing.policy import NO_HINT

CHANGES = st.lists(
    st.tuples(st.sampled_from(["come", "go", "ask", "exclude"]), st.integers(1, 12)), max_size=80
)


def asked(policy: RoundRobinPolicy, exclude: frozenset[int] = frozenset()) -> int | None:
    choice = policy.choose(NO_HINT, 0.0, exclude=exclude)
    return None if choice is None else choice.candidate.instance_id


@given(CHANGES)
def test_turns_are_those_of_the_ids_through_all_changes(changes: list[tuple[str, int]]) -> None:
    """After any comings and goings it is the first above the one served last, or else the first of all."""
    policy = RoundRobinPolicy(random.Random(1))
    there: set[int] = set()
    last = -1
    for change, id in changes:
        if change == "come":
            policy.offer(StandIn(id))
            there.add(id)
        elif change == "go":
            policy.withdraw(key(id))
            there.discard(id)
        else:
            tried = frozenset[int]() if change == "ask" else frozenset({id, id % 3})
            left = sorted(there - tried)
            expected = next((each for each in left if each > last), left[0] if left else None)
            assert asked(policy, frozenset(map(key, tried))) == expected
            last = last if expected is None else expected


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=10), st.integers(1, 60))
def test_those_who_stay_differ_by_one_request_at_most(changes: list[tuple[bool, int]], between: int) -> None:
    """However others join and leave: among those that were there all the time nobody is served twice more."""
    policy = RoundRobinPolicy(random.Random(1))
    stay = (100, 200, 300)
    offered(policy, *(StandIn(id) for id in stay))
    counts: Counter[int | None] = Counter()
    for comes, id in [*changes, (False, 1)]:
        if comes:
            policy.offer(StandIn(id * 37))
        else:
            policy.withdraw(key(id * 37))
        for _ in range(between % 7 + 1):
            counts[asked(policy)] += 1
        loads = [counts[each] for each in stay]
        assert max(loads) - min(loads) <= 1


def test_the_next_one_scores_best() -> None:
    policy = RoundRobinPolicy(random.Random(1))
    offered(policy, StandIn(1), StandIn(2), StandIn(3))
    assert asked(policy) == 1
    assert [(score.score, score.why) for score in policy.scores(NO_HINT, 0.0)] == [
        (2.0, "later"),
        (0.0, "turn"),
        (1.0, "later"),
    ]
