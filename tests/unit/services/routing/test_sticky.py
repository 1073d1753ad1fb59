"""Pins before sessions, sessions before the policy."""

import random

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
from vastproxy.services.routing.policies.sticky import Places, Sticky
from vastproxy.services.routing.policy import Hint

SESSION = Hint(session=42)


def make(places: Places | None = None) -> Sticky:
    policy = Sticky(RoundRobinPolicy(random.Random(1)), random.Random(2), places=places)
    offered(policy, *(StandIn(id) for id in (1, 2, 3)))
    return policy


def ask(policy: Sticky, hint: Hint, now: float = 0.0) -> tuple[int, str]:
    choice = policy.choose(hint, now)
    assert choice is not None
    policy.assigned(choice.candidate.key, hint, now)
    policy.finished(choice.candidate.key, now)
    return choice.candidate.instance_id, choice.why


def test_a_session_stays_where_it_was() -> None:
    policy = make()
    assert ask(policy, Hint()) == (1, "turn")
    assert ask(policy, SESSION) == (2, "turn")
    assert [ask(policy, SESSION) for _ in range(3)] == [(2, "session")] * 3
    assert ask(policy, Hint()) == (3, "turn")


def test_a_pin_comes_first_and_takes_the_session_along() -> None:
    policy = make()
    assert ask(policy, SESSION)[0] == 1
    assert ask(policy, Hint(session=42, pin=3)) == (3, "pinned")
    assert ask(policy, SESSION) == (3, "session")


def test_a_pin_that_cannot_be_granted_is_nobodys_error() -> None:
    policy = make()
    policy.offer(StandIn(3, limit=0))
    assert ask(policy, Hint(pin=3)) == (1, "turn")
    assert ask(policy, Hint(pin=99)) == (2, "turn")
    choice = policy.choose(Hint(pin=1), 0.0, exclude={key(1)})
    assert choice is not None
    assert choice.candidate.instance_id == 2


def test_of_two_engines_in_a_pinned_instance_the_less_loaded_serves() -> None:
    policy = make()
    policy.offer(StandIn(2, in_flight=3))
    other = StandIn(2, port=9000)
    policy.offer(other)
    choice = policy.choose(Hint(pin=2), 0.0)
    assert choice is not None
    assert choice.candidate is other
    policy.withdraw(other.key)
    assert ask(policy, Hint(pin=2)) == (2, "pinned")


def test_a_session_whose_place_is_gone_moves_for_good() -> None:
    policy = make()
    assert ask(policy, SESSION)[0] == 1
    policy.withdraw(key(1))
    assert ask(policy, SESSION) == (2, "turn")
    policy.offer(StandIn(1))
    assert ask(policy, SESSION) == (2, "session")


def test_an_idle_session_is_forgotten() -> None:
    policy = make(places := Places(idle_s=10.0))
    ask(policy, SESSION, 0.0)
    assert ask(policy, SESSION, 10.0)[1] == "session"
    assert ask(policy, SESSION, 20.5)[1] == "turn"
    ask(policy, Hint(session=43), 40.0)
    assert len(places) == 1


def test_the_session_idle_for_longest_makes_room() -> None:
    policy = make(places := Places(max_sessions=2))
    for session in (1, 2, 1, 3):
        ask(policy, Hint(session=session))
    assert len(places) == 2
    reasons = [choice.why for session in (1, 2, 3) if (choice := policy.choose(Hint(session=session), 0.0))]
    assert reasons == ["session", "turn", "session"]


def test_wishes_are_marked_in_the_scores() -> None:
    policy = make()
    ask(policy, SESSION)
    hint = Hint(session=42, pin=2)
    assert [score.why for score in policy.scores(hint, 0.0)] == ["session", "pinned", "later"]
    assert policy.scores(hint, 0.0, exclude={key(1)})[0].why == "excluded"


def test_a_session_has_a_place_of_its_own_for_each_model_that_shares_the_memory() -> None:
    places = Places()
    one, other = (
        Sticky(RoundRobinPolicy(random.Random(1)), random.Random(seed), places=places) for seed in (1, 2)
    )
    offered(one, StandIn(1), StandIn(2))
    offered(other, StandIn(2), StandIn(3))
    assert ask(one, SESSION)[0] == 1
    assert ask(other, SESSION)[0] == 2
    assert (ask(one, SESSION)[1], ask(other, SESSION)[1]) == ("session", "session")
    assert len(places) == 2


def test_a_session_whose_place_is_full_moves_and_says_so() -> None:
    policy = make()
    assert ask(policy, SESSION)[0] == 1
    policy.offer(StandIn(1, limit=0))
    assert ask(policy, SESSION) == (2, "session moved")
    assert ask(policy, SESSION) == (2, "session")
    for id in (1, 2, 3):
        policy.offer(StandIn(id, limit=0))
    assert policy.choose(SESSION, 0.0) is None
