"""A prompt goes where its beginning has been, while that is not too busy."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.candidate import power
from vastproxy.services.routing.policies.homes import MAX_HOMES, Homes
from vastproxy.services.routing.policies.prefix_affinity import AffinityLimits, PrefixAffinity
from vastproxy.services.routing.policy import Hint

LIMITS = AffinityLimits()
NOW = 100.0
CHAT = Hint(prefix=(11, 12, 13))
#: The same conversation, one turn later.
LATER = Hint(prefix=(11, 12, 13, 14))
#: Another one behind the same system prompt.
OTHER = Hint(prefix=(11, 22))


def fleet(count: int, **over: float) -> tuple[PrefixAffinity, list[StandIn]]:
    policy = PrefixAffinity(random.Random(7))
    machines = [StandIn(id) for id in range(1, count + 1)]
    for each in machines:
        for name, value in over.items():
            setattr(each, name, value)
    offered(policy, *machines)
    return policy, machines


def ask(policy: PrefixAffinity, hint: Hint, machines: list[StandIn]) -> tuple[StandIn, str]:
    """Choose and send; the request stays in flight."""
    choice = policy.choose(hint, NOW)
    assert choice is not None
    chosen = next(each for each in machines if each is choice.candidate)
    chosen.in_flight += 1
    policy.assigned(chosen.key, hint, NOW)
    return chosen, choice.why


def test_what_is_not_known_goes_to_the_least_loaded() -> None:
    policy, machines = fleet(3)
    machines[0].in_flight = machines[2].in_flight = 2
    assert ask(policy, CHAT, machines) == (machines[1], "least loaded")


def test_the_next_turn_goes_where_the_one_before_was() -> None:
    policy, machines = fleet(10)
    home, _ = ask(policy, CHAT, machines)
    for _ in range(LIMITS.free_in_flight - 1):
        assert ask(policy, LATER, machines) == (home, "prefix")


@given(st.integers(2, 15), st.integers(0, 40))
def test_a_prefix_stays_at_home_while_the_load_is_bounded(count: int, others: int) -> None:
    """As long as a home has less than its due times the factor it gets its prompts, and then no more."""
    policy, machines = fleet(count)
    home, _ = ask(policy, CHAT, machines)
    for each in machines:
        each.in_flight = others
    for _ in range(200):
        total = sum(each.in_flight for each in machines)
        due = (total + 1) * power(home) / sum(power(each) for each in machines)
        before = home.in_flight
        chosen, why = ask(policy, LATER, machines)
        if before >= max(LIMITS.free_in_flight, LIMITS.load_factor * due):
            assert chosen is not home
            return
        assert (chosen, why) == (home, "prefix")
    raise AssertionError("its load is not bounded")


def test_a_second_home_takes_what_the_first_cannot_and_there_is_no_third() -> None:
    policy, machines = fleet(8)
    served = {ask(policy, CHAT, machines)[0].instance_id}
    reasons = set()
    for _ in range(200):
        chosen, why = ask(policy, CHAT, machines)
        reasons.add(why)
        served.add(chosen.instance_id)
    assert reasons == {"prefix", "second home", "spilled"}
    assert len(served) > 2
    depth, homes = policy.homes.find(CHAT.prefix, policy.pool)
    assert (depth, len(homes)) == (3, MAX_HOMES)


def test_one_hot_prefix_cannot_drown_its_homes() -> None:
    """Two thousand requests that all begin alike are spread nearly as evenly as if nothing were known of them."""
    policy, machines = fleet(8)
    for _ in range(2000):
        ask(policy, CHAT, machines)
    mean = sum(each.in_flight for each in machines) / len(machines)
    assert max(each.in_flight for each in machines) <= LIMITS.load_factor * mean + 1


def test_a_conversation_that_had_to_move_stays_where_it_moved() -> None:
    policy, machines = fleet(4)
    shared = Hint(prefix=(11,))
    for each in machines[:2]:
        policy.assigned(each.key, shared, NOW)
        each.in_flight = 40
    moved, why = ask(policy, OTHER, machines)
    assert why == "spilled"
    assert moved in machines[2:]
    for each in machines:
        each.in_flight = 0
    assert ask(policy, Hint(prefix=(11, 22, 23)), machines) == (moved, "prefix")


def test_a_home_with_a_long_queue_is_left() -> None:
    """The engine says that others make it wait, though we send it little."""
    policy, machines = fleet(3)
    home, _ = ask(policy, CHAT, machines)
    for each in machines:
        each.waiting, each.waiting_at = 0, NOW
    home.waiting = LIMITS.queue_gap
    assert ask(policy, LATER, machines)[0] is home
    home.waiting = LIMITS.queue_gap + 1
    assert ask(policy, LATER, machines)[0] is not home


def test_a_home_that_would_take_far_longer_is_left() -> None:
    """Everybody is busy but one that has just come: computing the prompt there is sooner done."""
    policy, machines = fleet(3, in_flight=20)
    home, _ = ask(policy, CHAT, machines)
    assert ask(policy, LATER, machines)[0] is home
    new = StandIn(9)
    policy.offer(new)
    machines.append(new)
    assert ask(policy, LATER, machines)[0] is new


def test_a_home_that_is_gone_gives_way_and_one_that_is_back_is_remembered() -> None:
    policy, machines = fleet(5)
    home, _ = ask(policy, CHAT, machines)
    policy.withdraw(home.key)
    chosen, why = ask(policy, LATER, machines)
    assert chosen is not home
    assert why == "least loaded"
    policy.withdraw(chosen.key)
    policy.offer(home)
    assert ask(policy, CHAT, machines) == (home, "prefix")


def test_an_excluded_home_is_not_asked_again() -> None:
    policy, machines = fleet(2)
    home, _ = ask(policy, CHAT, machines)
    choice = policy.choose(CHAT, NOW, exclude={home.key})
    assert choice is not None
    assert choice.candidate is not home


def test_scores_show_the_home_first_and_change_nothing() -> None:
    policy, machines = fleet(3)
    home, _ = ask(policy, CHAT, machines)
    told = {score.key: score for score in policy.scores(LATER, NOW)}
    assert told[home.key].why == "home"
    assert min(told.values(), key=lambda score: score.score).key == home.key
    home.in_flight = 50
    assert {score.key: score.why for score in policy.scores(LATER, NOW)}[home.key] == "home without room"


@given(st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 5)), max_size=60))
def test_the_table_is_bounded_and_no_prefix_has_three_homes(records: list[tuple[list[int], int]]) -> None:
    homes = Homes(max_prefixes=10)
    everybody = range(10)
    for prefix, its in records:
        homes.record(tuple(prefix), its, everybody)
        assert len(homes) <= 10
        assert all(len(homes.find((block,), everybody)[1]) <= MAX_HOMES for block in range(31))


def test_what_was_not_seen_for_longest_is_forgotten_first() -> None:
    homes = Homes(max_prefixes=2)
    for block in (1, 2, 1, 3):
        homes.record((block,), 7, {7})
    assert [homes.find((block,), {7})[0] for block in (1, 2, 3)] == [1, 0, 1]


def test_only_a_home_that_is_gone_makes_room_for_a_third() -> None:
    homes = Homes(max_prefixes=8)
    for its in (1, 2, 3):
        homes.record((5,), its, {1, 2, 3})
    assert homes.find((5,), {1, 2, 3}) == (1, (1, 2))
    homes.record((5,), 3, {2, 3})
    assert homes.find((5,), {1, 2, 3}) == (1, (2, 3))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_longest_beginning_counts(depth: int) -> None:
    policy, machines = fleet(3)
    for length in range(1, depth + 1):
        policy.assigned(key(length), Hint(prefix=CHAT.prefix[:length]), NOW)
    assert ask(policy, CHAT, machines)[0].instance_id in (depth, depth - 1 or 1)
    assert policy.homes.find(CHAT.prefix, policy.pool)[0] == 3
