"""Policies of the user's own: found by name, and no danger to anybody's request."""

import logging
import random
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.helpers.candidates import StandIn, key, offered
from vastproxy.services.routing.candidate import Candidate
from vastproxy.services.routing.policies.cheapest_first import CheapestFirst
from vastproxy.services.routing.policies.least_loaded import LeastLoaded
from vastproxy.services.routing.policies.make import Memory, make_policy
from vastproxy.services.routing.policies.own import LOGGED_EACH, Guarded, own_policy
from vastproxy.services.routing.policies.pooled import Pooled
from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
from vastproxy.services.routing.policy import NO_HINT, Choice, Hint, Policy, Score
from vastproxy.settings import SettingsError, load_settings
from vastproxy.settings.routing import RoutingSettings

HERE = __name__


class Highest(Pooled):
    """Whoever has the highest key, full or not."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.ended: list[int] = []

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        best = max(self.pool, key=lambda each: each.key, default=None)
        return None if best is None else Choice(best, "highest")

    def judge(self, candidate: Any, hint: Hint, now: float) -> tuple[float, str]:
        return -float(candidate.key), "key"

    def finished(self, key: int, now: float) -> None:
        self.ended.append(key)


class Raises(Highest):
    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        raise KeyError("oops")

    def judge(self, candidate: Any, hint: Hint, now: float) -> tuple[float, str]:
        raise KeyError("oops")

    def offer(self, candidate: Any) -> None:
        raise KeyError("oops")

    withdraw = assigned = finished = offer  # type: ignore[assignment]


class Refuses(Highest):
    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        return None


class Says(Highest):
    """Something, whatever was promised."""

    answer: Any = None

    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        said: Choice | None = self.answer(next(iter(self.pool)))
        return said

    def judge(self, candidate: Any, hint: Hint, now: float) -> tuple[float, str]:
        said: tuple[float, str] = self.answer(candidate)
        return said


class FromAnother(LeastLoaded):
    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        return super().choose(hint, now, exclude=exclude)


class NotMade(Highest):
    def __init__(self, rng: random.Random, more: int) -> None:
        super().__init__(rng)


class Unfinished(Pooled):
    pass


NotAClass = 7


def guarded(own: type[Highest]) -> Guarded:
    return Guarded(own(random.Random(1)), random.Random(1))


def test_a_class_of_ones_own_decides() -> None:
    """By `module:Class`, behind pins and sessions as the others are."""
    settings = RoutingSettings.model_validate({"policy": f"{HERE}:Highest"})
    policy = make_policy(settings, random.Random(1), Memory(settings))
    offered(policy, StandIn(1), StandIn(3), StandIn(2))
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert (choice.candidate.key, choice.why) == (key(3), "highest")
    pinned = policy.choose(Hint(pin=1), 0.0)
    assert pinned is not None
    assert pinned.candidate.key == key(1)
    assert [each.why for each in policy.scores(NO_HINT, 0.0)] == ["key"] * 3
    policy.withdraw(key(3))
    assert (choice := policy.choose(NO_HINT, 0.0)) is not None
    assert choice.candidate.key == key(2)


def test_it_is_told_of_ends_if_it_wants_to_know() -> None:
    wants, does_not = guarded(Highest), Guarded(_Plain(random.Random(1)), random.Random(1))
    assert wants.hears_of_ends
    assert not does_not.hears_of_ends
    wants.finished(key(1), 0.0)
    assert isinstance(wants._own, Highest)
    assert wants._own.ended == [key(1)]


class _Plain(Pooled):
    def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
        return None

    def judge(self, candidate: Any, hint: Hint, now: float) -> tuple[float, str]:
        return 0.0, ""


def test_one_that_raises_costs_its_wisdom_and_nobodys_request(caplog: pytest.LogCaptureFixture) -> None:
    """The least loaded is asked instead, and the log says so: at first, and then now and again."""
    policy = guarded(Raises)
    offered(policy, StandIn(1, in_flight=5), StandIn(2))
    for _ in range(LOGGED_EACH):
        choice = policy.choose(NO_HINT, 0.0)
        assert choice is not None
        assert (choice.candidate.key, choice.why) == (key(2), "the policy failed")
    policy.assigned(key(2), NO_HINT, 0.0)
    policy.finished(key(2), 0.0)
    assert [score.why for score in policy.scores(NO_HINT, 0.0)] == ["load (the policy failed)"] * 2
    policy.withdraw(key(2))
    assert [each.key for each in policy.pool] == [key(1)]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "the policy Raises failed (1 times by now)" in errors[0].getMessage()
    assert "KeyError" in errors[0].getMessage()


def test_whom_it_may_not_choose_is_not_chosen() -> None:
    """One that is full, tried already, or not there."""
    policy = guarded(Highest)
    offered(policy, StandIn(1), StandIn(2, limit=0))
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert (choice.candidate.key, choice.why) == (key(1), "the policy failed")
    assert policy.choose(NO_HINT, 0.0, exclude={key(1)}) is None


@pytest.mark.parametrize(
    "answer",
    [
        lambda one: one,
        lambda one: (one, "why"),
        lambda one: 7,
        lambda one: Choice(None, "why"),  # type: ignore[arg-type]
        lambda one: Choice(7, "why"),  # type: ignore[arg-type]
        lambda one: Choice(one, "why", [("a", 1.0)]),  # type: ignore[list-item]
        lambda one: Choice(one, "why", among=None),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_choice_costs_no_request(answer: Any) -> None:
    policy = guarded(Says)
    offered(policy, StandIn(1))
    policy._own.answer = answer  # type: ignore[attr-defined]
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert (choice.candidate.key, choice.why) == (key(1), "the policy failed")


def test_a_choice_is_taken_as_what_was_meant() -> None:
    """Later its story is told, which has no place for surprises."""
    policy = guarded(Says)
    offered(policy, StandIn(1))
    loose: Any = Choice
    policy._own.answer = lambda one: loose(one, None, [[one.key, 1]], 1.0)  # type: ignore[attr-defined]
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert (choice.why, choice.scores, choice.among) == ("None", [(key(1), 1.0)], 1)


def test_a_judgement_is_taken_as_what_was_meant() -> None:
    policy = guarded(Says)
    offered(policy, StandIn(1))
    policy._own.answer = lambda one: ["1.5", None]  # type: ignore[attr-defined]
    assert [(each.score, each.why) for each in policy.scores(NO_HINT, 0.0)] == [(1.5, "None")]


@pytest.mark.parametrize("base", [LeastLoaded, CheapestFirst, PrefixAffinity, RoundRobinPolicy])
def test_each_of_ours_can_be_built_on(base: type[Pooled]) -> None:
    own = type("Own", (base,), {})
    assert own_policy(f"{HERE}:FromAnother") is FromAnother
    policy = Guarded(own(random.Random(1)), random.Random(1))
    offered(policy, StandIn(1))
    assert (choice := policy.choose(NO_HINT, 0.0)) is not None
    assert choice.candidate.key == key(1)


def test_the_interface_can_be_named_as_a_base() -> None:
    """As programs do that want their types checked where the class is written."""

    class Nobody(Policy):
        def offer(self, candidate: Candidate) -> None: ...
        def withdraw(self, key: int) -> None: ...
        def assigned(self, key: int, hint: Hint, now: float) -> None: ...
        def finished(self, key: int, now: float) -> None: ...

        def choose(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> Choice | None:
            return None

        def scores(self, hint: Hint, now: float, *, exclude: Collection[int] = ()) -> list[Score]:
            return []

    policy: Policy = Nobody()
    offered(policy, StandIn(1))
    assert policy.choose(NO_HINT, 0.0) is None


def test_nobody_is_chosen_only_where_nobody_can_be() -> None:
    """A policy that says nobody while there is a place would let requests wait for ever."""
    policy = guarded(Refuses)
    assert policy.choose(NO_HINT, 0.0) is None
    offered(policy, StandIn(1))
    choice = policy.choose(NO_HINT, 0.0)
    assert choice is not None
    assert choice.why == "the policy failed"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:A", "the module no_such_module cannot be imported (ModuleNotFoundError"),
        (f"{HERE}:Missing", f"the module {HERE} has no Missing"),
        (f"{HERE}:NotAClass", "that is no class made from vastproxy.Pooled"),
        ("pathlib:Path", "that is no class made from vastproxy.Pooled"),
        (f"{HERE}:Unfinished", "it has no method choose and no method judge"),
        (f"{HERE}:NotMade", "NotMade(random.Random(…)) cannot be made (TypeError"),
    ],
)
def test_what_cannot_be_used_is_one_line(name: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        own_policy(name)
    assert f"routing.policy is {name}, but {why}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_working_directory_is_looked_in_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for `python -m`, also when the program was installed; and the search path is as before."""
    (tmp_path / "my_policy_of_the_test.py").write_text(
        f"from {HERE} import Highest\nclass Mine(Highest):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    before = list(sys.path)
    assert own_policy("my_policy_of_the_test:Mine").__name__ == "Mine"
    assert sys.path == before
    del sys.modules["my_policy_of_the_test"]


def test_a_class_can_be_given_where_settings_are_made() -> None:
    """It becomes its name, so that settings stay something that can be written down."""
    settings = load_settings(overrides={"routing.policy": Highest}, environ={}, cwd=Path("/"))
    assert settings.routing.policy == f"{HERE}:Highest"


@pytest.mark.parametrize("name", ["fastest", "a:", ":B", "a b:C", "a:B.c", "a:b()", "", "1:a"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(SettingsError, match=r"expected one of prefix_affinity, .* or module:Class"):
        load_settings(overrides={"routing.policy": name}, environ={}, cwd=Path("/"))
    with pytest.raises(ValidationError):
        RoutingSettings.model_validate({"policy": name})


def test_names_in_capitals_are_understood() -> None:
    settings = load_settings(environ={"VASTPROXY_ROUTING__POLICY": "Least_Loaded"}, cwd=Path("/"))
    assert settings.routing.policy == "least_loaded"
