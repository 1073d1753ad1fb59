"""What the engines of one instance come to."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine import CLOSED_KEPT_S, Engine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget, HealthStatus
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside_plan import MAX_ENGINES, Sight, after_search, sum_up

GOOD, BAD, ABSENT = Observation.GOOD, Observation.BAD, Observation.ABSENT
NOW = 10_000.0


def found(
    port: int,
    kind: EngineKind = EngineKind.VLLM,
    *,
    doors: Sequence[int] = (),
    models: Sequence[str] = ("a",),
) -> DiscoveredEngine:
    return DiscoveredEngine(EngineTarget(kind, port), tuple(models), Origin.PROBING, "", tuple(doors))


def engine(one: DiscoveredEngine, *, healthy: bool = False, closed_since: float | None = None) -> Engine:
    made = Engine(one)
    if healthy:
        made.observe(GOOD, NOW, "", unhealthy_after=3, proof_s=10.0)
    made.closed_since = closed_since
    return made


def search(known: Sequence[Engine], *seen: DiscoveredEngine) -> tuple[Engine, ...]:
    return after_search(known, seen, engine, NOW)


def test_the_same_kind_on_the_same_port_is_the_same_engine() -> None:
    before = engine(found(1), healthy=True, closed_since=5.0)
    assert search([before], found(1, models=("b",), doors=(9,))) == (before,)
    assert (before.models, before.found.ports, before.closed_since) == (("b",), (1, 9), None)


@pytest.mark.parametrize("healthy", [True, False])
def test_another_kind_is_another_engine(healthy: bool) -> None:
    before = engine(found(1), healthy=healthy)
    (after,) = search([before], found(1, EngineKind.SGLANG))
    assert after is not before
    assert not after.is_healthy


def test_an_unnamed_kind_is_the_same_engine_when_it_serves_the_same_models() -> None:
    before = engine(found(1))
    assert search([before], found(1, EngineKind.OPENAI)) == (before,)
    assert before.kind is EngineKind.VLLM
    (after,) = search([before], found(1, EngineKind.OPENAI, models=("b",)))
    assert after is not before
    (other,) = search([engine(found(1, models=()))], found(1, EngineKind.OPENAI, models=()))
    assert other.kind is EngineKind.OPENAI


def test_one_that_was_not_found_stays_until_it_was_closed_for_long() -> None:
    slow, shut = engine(found(1)), engine(found(2), closed_since=NOW - CLOSED_KEPT_S + 1)
    gone = engine(found(3), closed_since=NOW - CLOSED_KEPT_S)
    assert search([slow, shut, gone]) == (slow, shut)


def test_one_whose_port_leads_to_another_now_is_gone() -> None:
    door, own = engine(found(8000), healthy=True), engine(found(18000, doors=(8001,)), closed_since=NOW)
    (after,) = search([door], found(18000, doors=(8000,)))
    assert after.port == 18000
    (after,) = search([own], found(8001))
    assert after.port == 8001


def test_those_that_serve_are_kept_when_there_are_too_many() -> None:
    shut = [engine(found(port), closed_since=NOW) for port in range(1, 9)]
    well = [engine(found(port), healthy=True) for port in range(11, 14)]
    kept = search([*shut, *well], *(found(each.port) for each in well))
    assert kept[:3] == tuple(well)
    assert len(kept) == MAX_ENGINES


PORTS = st.integers(1, 6)
KINDS = st.sampled_from([EngineKind.VLLM, EngineKind.SGLANG, EngineKind.OPENAI])
ENGINES = st.builds(
    lambda port, kind, healthy, closed: engine(found(port, kind), healthy=healthy, closed_since=closed),
    PORTS,
    KINDS,
    st.booleans(),
    st.sampled_from([None, NOW - 1, 0.0]),
)
FOUND = st.lists(st.builds(found, PORTS, KINDS), max_size=6, unique_by=lambda one: one.target.port)


@given(st.lists(ENGINES, max_size=6, unique_by=lambda one: one.port), FOUND)
def test_a_search_finds_each_port_once_and_takes_nothing_that_it_did_not_replace(
    known: list[Engine], seen: list[DiscoveredEngine]
) -> None:
    after = search(known, *seen)
    ports = [each.port for each in after]
    assert len(ports) == len(set(ports))
    assert {one.target.port for one in seen} <= set(ports)
    for each in known:
        if each.closed_since is None:
            assert each.port in ports
            assert each in after or each.port in {one.target.port for one in seen}


STATUSES = {
    HealthStatus.HEALTHY: GOOD,
    HealthStatus.LOADING: ABSENT,
    HealthStatus.UNAUTHORIZED: ABSENT,
    HealthStatus.CLOSED: ABSENT,
    HealthStatus.UNHEALTHY: BAD,
}


@pytest.mark.parametrize(("status", "seen"), STATUSES.items())
def test_the_only_engine_is_the_instance(status: HealthStatus, seen: Observation) -> None:
    """Whether it still serves makes no difference to what was seen of it."""
    for healthy in {seen is not ABSENT, seen is GOOD}:
        sight = Sight(engine(found(1), healthy=healthy), status, "why")
        assert sight.observation is seen
        assert sum_up([sight], "") == (seen, "" if seen is GOOD else "why")


def test_no_engine_is_absent_for_the_reason_that_the_search_gave() -> None:
    assert sum_up([], "nothing there") == (ABSENT, "nothing there")


def test_a_search_explains_a_closed_port_and_an_engine_explains_itself() -> None:
    shut = Sight(engine(found(1), closed_since=NOW), HealthStatus.CLOSED, "port 1 is closed")
    sick = Sight(engine(found(2)), HealthStatus.UNHEALTHY, "500")
    assert sum_up([shut], "") == (ABSENT, "port 1 is closed")
    assert sum_up([shut], "looked everywhere") == (ABSENT, "looked everywhere")
    assert sum_up([shut, sick], "looked everywhere") == (ABSENT, "500")


@given(st.lists(st.tuples(st.sampled_from(list(HealthStatus)), st.booleans()), min_size=1, max_size=8))
def test_one_that_is_well_is_enough_and_one_that_serves_is_in_doubt(
    seen: list[tuple[HealthStatus, bool]],
) -> None:
    sights = [Sight(engine(found(1), healthy=serves), status, "why") for status, serves in seen]
    observation, detail = sum_up(sights, "")
    statuses = {status for status, _ in seen}
    assert (observation is GOOD) is (HealthStatus.HEALTHY in statuses) is (detail == "")
    if observation is ABSENT:
        assert not any(serves for _, serves in seen)
