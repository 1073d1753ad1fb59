"""What holds for every policy, whatever comes, goes, fills up and is asked."""

import random
from collections.abc import Collection

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.candidate import may_take
from vastproxy.services.routing.policies.homes import MAX_HOMES
from vastproxy.services.routing.policies.make import POLICIES, Memory, make_policy
from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
from vastproxy.services.routing.policies.sticky import Sticky
from vastproxy.services.routing.policy import NO_HINT, Hint
from vastproxy.settings.routing import RoutingSettings

MAX_SESSIONS = 4
MAX_PREFIXES = 12
IDS = st.integers(1, 12)
#: Beginnings that share their own beginnings: few different blocks, each chain continuing another one.
PREFIXES = st.lists(st.integers(1, 3), max_size=6).map(
    lambda text: tuple(hash(tuple(text[: end + 1])) & 0xFFFF for end in range(len(text)))
)
HINTS = st.builds(
    Hint,
    prefix=PREFIXES,
    session=st.none() | st.integers(1, 8),
    pin=st.none() | IDS,
)


def make(name: str, seed: int = 1) -> tuple[Sticky, Memory]:
    settings = RoutingSettings.model_validate(
        {"policy": name, "max_sessions": MAX_SESSIONS, "affinity_max_prefixes": MAX_PREFIXES}
    )
    memory = Memory(settings)
    return make_policy(settings, random.Random(seed), memory), memory


class PolicyMachine(RuleBasedStateMachine):
    """Two policies from one seed are told the same. Of one the scores are read in between."""

    @initialize(name=st.sampled_from(sorted(POLICIES)), seed=st.integers(0, 99))
    def begin(self, name: str, seed: int) -> None:
        self.policy, self.memory = make(name, seed)
        self.twin, _ = make(name, seed)
        self.members: dict[int, StandIn] = {}
        self.all: dict[int, StandIn] = {}
        self.running: list[int] = []
        self.blocks: set[int] = set()
        self.now = 0.0

    @rule(
        id=IDS,
        limit=st.none() | st.integers(0, 3),
        speed=st.floats(0.01, 100),
        weight=st.floats(0, 1),
        cost=st.none() | st.floats(0, 10),
    )
    def come(self, id: int, limit: int | None, speed: float, weight: float, cost: float | None) -> None:
        known = self.all.setdefault(key(id), StandIn(id))
        known.limit, known.speed, known.weight, known.hourly_cost = limit, speed, weight, cost
        self.members[known.key] = known
        for each in (self.policy, self.twin):
            each.offer(known)

    @rule(id=IDS)
    def go(self, id: int) -> None:
        self.members.pop(key(id), None)
        for each in (self.policy, self.twin):
            each.withdraw(key(id))

    @rule(id=IDS, waiting=st.integers(0, 20))
    def tell(self, id: int, waiting: int) -> None:
        if key(id) in self.members:
            self.members[key(id)].waiting, self.members[key(id)].waiting_at = waiting, self.now

    @rule(seconds=st.floats(0, 4000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(hint=HINTS, exclude=st.sets(IDS.map(key), max_size=3), read=st.booleans())
    def ask(self, hint: Hint, exclude: Collection[int], read: bool) -> None:
        if read:
            scores = self.policy.scores(hint, self.now, exclude=exclude)
            assert [each.key for each in scores] == sorted(self.members)
        choice = self.policy.choose(hint, self.now, exclude=exclude)
        again = self.twin.choose(hint, self.now, exclude=exclude)
        able = [each for each in self.members.values() if may_take(each, exclude)]
        if choice is None or again is None:
            assert choice is again is None
            assert not able
            return
        assert choice == again
        assert any(choice.candidate is each for each in able)
        if any(each.instance_id == hint.pin for each in able):
            assert choice.candidate.instance_id == hint.pin
        chosen = self.all[choice.candidate.key]
        chosen.in_flight += 1
        self.running.append(chosen.key)
        self.blocks.update(hint.prefix)
        for each in (self.policy, self.twin):
            each.assigned(chosen.key, hint, self.now)

    @rule(which=st.integers(0, 1000))
    def finish(self, which: int) -> None:
        if self.running:
            ended = self.running.pop(which % len(self.running))
            self.all[ended].in_flight -= 1
            for each in (self.policy, self.twin):
                each.finished(ended, self.now)

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        if not hasattr(self, "policy"):
            return
        assert len(self.memory.places) <= MAX_SESSIONS
        if isinstance(self.policy.inner, PrefixAffinity):
            homes = self.policy.inner.homes
            assert len(homes) <= MAX_PREFIXES
            assert all(len(homes.find((block,), self.all)[1]) <= MAX_HOMES for block in self.blocks)


TestPolicies = PolicyMachine.TestCase
TestPolicies.settings = hypothesis_settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_nobody_is_chosen_from_nobody(name: str) -> None:
    policy, _ = make(name)
    assert policy.choose(NO_HINT, 0.0) is None
    assert policy.scores(NO_HINT, 0.0) == []
    offered(policy, StandIn(1, limit=0), StandIn(2))
    assert policy.choose(NO_HINT, 0.0, exclude={key(2)}) is None


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_one_place_among_a_thousand_full_ones_is_found(name: str) -> None:
    policy, _ = make(name)
    offered(policy, *(StandIn(id, in_flight=4, limit=4, hourly_cost=1.0) for id in range(1, 1001)))
    policy.offer(StandIn(617, in_flight=3, limit=4, hourly_cost=1.0))
    for _ in range(3):
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        assert choice.candidate.instance_id == 617


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_why_nobody_can_be_chosen_is_told(name: str) -> None:
    policy, _ = make(name)
    offered(policy, StandIn(1, in_flight=2, limit=2), StandIn(2), StandIn(3))
    told = {score.key: score.why for score in policy.scores(NO_HINT, 0.0, exclude={key(2)})}
    assert told[key(1)] == "full"
    assert told[key(2)] == "excluded"
    assert told[key(3)] not in ("full", "excluded")


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_what_draws_lots_prefers_nobody_among_equals(name: str) -> None:
    """Ties are broken at random, or by turns; only the order of prices is fixed."""
    policy, _ = make(name)
    offered(policy, *(StandIn(id) for id in range(1, 4)))
    counts = dict.fromkeys(range(1, 4), 0)
    for _ in range(600):
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        counts[choice.candidate.instance_id] += 1
    if name == "cheapest_first":
        assert counts == {1: 600, 2: 0, 3: 0}
    else:
        assert all(150 <= count <= 250 for count in counts.values())


class Watched(StandIn):
    """Counts how often policies look at any of its kind."""

    looks = 0

    @property
    def limit(self) -> int | None:
        Watched.looks += 1
        return None

    @limit.setter
    def limit(self, value: int | None) -> None:
        pass


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"cheapest_first"}))
@pytest.mark.parametrize("known", [False, True])
def test_a_choice_among_a_thousand_considers_a_few(name: str, known: bool) -> None:
    policy, _ = make(name)
    offered(policy, *(Watched(id) for id in range(1000)))
    hint = Hint(prefix=(1, 2, 3) if known else ())
    for asked in range(1000):
        before = Watched.looks
        choice = policy.choose(hint, 0.0)
        assert choice is not None
        assert Watched.looks - before <= 16
        policy.assigned(choice.candidate.key, hint, 0.0)
        if asked < 500:
            assert isinstance(choice.candidate, Watched)
            choice.candidate.in_flight += 1
