"""What requests need, and who has it."""

import random

import pytest

from tests.helpers.builders import make_engine
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.dispatch.needs import MAX_NEEDS, Needs
from vastproxy.services.errors import ModelNotFound
from vastproxy.settings.routing import RoutingSettings


def make_needs(**routing: object) -> Needs:
    settings = RoutingSettings.model_validate({"policy": "round_robin", **routing})
    return Needs(settings, random.Random(1), lambda: 0.0)


def put(needs: Needs, id: int, *models: str, port: int = 8000, kind: EngineKind = EngineKind.VLLM) -> Engine:
    engine = make_engine(kind, port, models, instance_id=id)
    needs.learn(engine)
    needs.offer(engine)
    return engine


def members(needs: Needs, model: str | None) -> set[int]:
    return {engine.instance_id for engine in needs.find(model).members.values()}


def test_a_need_has_those_that_serve_it_and_may_be_asked() -> None:
    needs = make_needs()
    one = put(needs, 1, "a")
    put(needs, 2, "a", "b")
    put(needs, 3, "b")
    assert members(needs, "a") == {1, 2}
    assert members(needs, "b") == {2, 3}
    assert members(needs, None) == members(needs, ANY_MODEL) == {1, 2, 3}
    needs.withdraw(one.key)
    assert members(needs, "a") == {2}
    assert repr(needs.find("a")) == "<Need 'a' members=1>"


def test_a_need_is_renewed_only_when_something_has_changed() -> None:
    needs = make_needs()
    engine = put(needs, 1, "a")
    need = needs.find("a")
    version = needs.version
    needs.learn(engine)
    assert not needs.offer(engine)
    needs.withdraw(99)
    needs.forget(99)
    assert (needs.version, need.version) == (version, version)
    put(needs, 2, "b")
    assert need.version < needs.version
    assert needs.find("a") is need
    assert need.version == needs.version


def test_an_engine_that_lists_other_models_moves() -> None:
    needs = make_needs()
    engine = put(needs, 1, "a")
    put(needs, 2, "a")
    assert members(needs, "a") == {1, 2}
    engine.models = ("b",)
    needs.learn(engine)
    assert members(needs, "a") == {2}
    assert members(needs, "b") == {1}


def test_an_engine_that_lists_none_serves_any_unless_it_is_configured() -> None:
    needs = make_needs(models={"2": ["a"], "3:8001": ["b"]})
    put(needs, 1)
    put(needs, 2)
    put(needs, 3, "c", port=8001)
    put(needs, 3, "c", port=8002)
    assert members(needs, "a") == {1, 2}
    assert members(needs, "b") == {1, 3}
    assert {engine.port for engine in needs.find("b").members.values()} == {8000, 8001}
    assert {engine.port for engine in needs.find("c").members.values()} == {8000, 8002}


def test_names_that_the_engine_has_to_be_told() -> None:
    needs = make_needs(aliases={"fast": ["a", "b"]}, default_model="fast")
    one, two = put(needs, 1, "a"), put(needs, 2, "b")
    for asked in ("fast", None):
        need = needs.find(asked)
        assert need.renames
        assert need.wire_names == {one.key: "a", two.key: "b"}
    assert not needs.find("a").renames
    assert not needs.find(ANY_MODEL).renames


def test_a_model_that_nobody_has_is_refused_and_leaves_nothing() -> None:
    needs = make_needs()
    put(needs, 1, "a")
    with pytest.raises(ModelNotFound, match="'x' is not served here"):
        needs.find("x")
    assert set(needs.table) == set()


def test_a_model_whose_engine_has_gone_is_waited_for_and_then_refused() -> None:
    now = 0.0
    needs = Needs(RoutingSettings(), random.Random(1), lambda: now)
    engine = put(needs, 1, "a")
    put(needs, 2, "b")
    need = needs.find("a")
    needs.forget(engine.key)
    assert needs.find("a") is need
    assert not need.members
    now = 1_801.0
    with pytest.raises(ModelNotFound):
        needs.renew(need)
    assert "a" not in needs.table


def test_made_up_names_are_bounded_and_do_not_push_out_what_is_served() -> None:
    needs = make_needs(aliases={"fast": ["a"]})
    put(needs, 1, "a")
    put(needs, 2)  # takes any
    kept = [needs.find(model) for model in ("a", "fast", None, ANY_MODEL)]
    for number in range(2 * MAX_NEEDS):
        needs.find(f"made-up-{number}")
    assert len(needs.table) == MAX_NEEDS
    assert [needs.find(model) for model in ("a", "fast", None, ANY_MODEL)] == kept
    assert f"made-up-{2 * MAX_NEEDS - 1}" in needs.table


def test_where_all_are_served_the_oldest_need_goes() -> None:
    needs = make_needs()
    names = [f"m{number}" for number in range(MAX_NEEDS + 1)]
    put(needs, 1, *names)
    for name in names:
        needs.find(name)
    assert list(needs.table) == names[1:]


def test_whether_the_model_decides_anything() -> None:
    needs = make_needs()
    assert not needs.is_mixed
    put(needs, 1, "a")
    two = put(needs, 2, "a")
    assert not needs.is_mixed
    two.models = ("b",)
    needs.learn(two)
    assert needs.is_mixed
    needs.forget(two.key)
    assert not needs.is_mixed


@pytest.mark.parametrize(
    "routing", [{"aliases": {"x": ["a"]}}, {"default_model": "a"}, {"models": {"1": ["a"]}}]
)
def test_with_names_of_our_own_the_model_always_matters(routing: dict[str, object]) -> None:
    assert make_needs(**routing).is_mixed


def test_another_engine_with_the_same_key_takes_the_place() -> None:
    needs = make_needs()
    put(needs, 1, "a")
    need = needs.find("a")
    other = put(needs, 1, "a")
    assert needs.find("a") is need
    assert list(need.members.values()) == [other]
    chosen = need.choose_plain
    assert need.policy.inner.choose == chosen
