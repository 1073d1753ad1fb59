"""Who may be sent requests: suspects, those that are left alone and how they come back, and what is learnt of them."""

import asyncio
from typing import Any

import pytest

from tests.helpers.dispatching import BROKEN_OFF, PORT, SILENT, UNREACHABLE, Caller, Yard, way_lost
from vastproxy.services.backends.backend import Backend
from vastproxy.services.errors import ServiceError
from vastproxy.services.events import EngineEjected, EngineReturned, TokenRefused
from vastproxy.services.routing.outlier import State
from vastproxy.services.routing.policy import Hint
from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time

LIMITS = PassiveHealthSettings(way_failures=2, engine_failures=2, refusals=2, ejection_s=10, slow_start_s=0)


def make_yard(passive: PassiveHealthSettings = LIMITS, **settings: Any) -> Yard:
    return Yard(asyncio.get_running_loop().time, passive=passive, **settings)


def pinned(yard: Yard, id: int) -> Caller:
    return yard.ask(hint=Hint(pin=id))


def give_up(yard: Yard, caller: Caller, error: ServiceError, *, reached: bool = False) -> None:
    yard.dispatcher.failed(caller, error, reached=reached)
    yard.finish(caller)


def where(yard: Yard, count: int = 6) -> set[int]:
    """Who is given the next requests, each of which its client leaves at once."""
    places = set()
    for _ in range(count):
        caller = yard.ask()
        places.add(caller.at)
        yard.finish(caller)
    return places


def record_of(yard: Yard, backend: Backend) -> State:
    record = yard.dispatcher.targets.passive.state_of(backend.engines[0].key)
    assert record is not None
    return record.state


async def test_one_that_cannot_be_reached_gets_nothing_until_a_probe_finds_it_well() -> None:
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    give_up(yard, pinned(yard, 1), UNREACHABLE)
    assert (yard.doubted, where(yard)) == ([1], {2})
    yard.dispatcher.targets.refresh(first, serving=True)  # something else than a probe
    assert where(yard) == {2}
    yard.probe(first)
    assert where(yard) == {1, 2}
    assert (first.failures, first.engines[0].failures) == (1, 1)


async def test_a_probe_that_finds_a_suspect_well_does_not_make_its_failures_good() -> None:
    """Its health page answers, and requests fail again and again."""
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    for _ in range(2):
        give_up(yard, pinned(yard, 1), UNREACHABLE)
        yard.probe(first)
    assert where(yard) == {2}
    (event,) = yard.events
    assert event == EngineEjected(1, PORT, 10.0, str(UNREACHABLE))


async def test_failures_that_come_late_make_nobody_a_suspect_twice() -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    first, second = pinned(yard, 1), pinned(yard, 1)
    for each in (first, second):
        give_up(yard, each, UNREACHABLE)
    assert yard.doubted == [1]


async def test_probes_that_found_it_ill_and_then_well_make_everything_good() -> None:
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    for _ in range(2):
        yard.answer(pinned(yard, 1), 500)
    assert record_of(yard, first) is State.EJECTED
    yard.ill(first.engines[0])
    yard.well(first.engines[0])
    assert record_of(yard, first) is State.SERVING
    assert where(yard) == {1, 2}


@pytest.mark.parametrize("error", [BROKEN_OFF, SILENT])
async def test_failures_of_the_engine_count_and_do_not_make_it_a_suspect(error: ServiceError) -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    give_up(yard, pinned(yard, 1), error, reached=error is BROKEN_OFF)
    assert where(yard) == {1, 2}
    give_up(yard, pinned(yard, 1), error, reached=error is BROKEN_OFF)
    assert where(yard) == {2}
    assert yard.doubted == []


async def test_a_lost_ssh_connection_is_not_held_against_the_engine() -> None:
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    for _ in range(5):
        give_up(yard, pinned(yard, 1), way_lost())
    assert where(yard) == {1, 2}
    assert first.failures == 5
    assert yard.events == []


async def test_the_last_one_is_never_left_alone() -> None:
    yard = make_yard()
    first = yard.add(1)
    for _ in range(4):
        yard.answer(yard.ask(), 500)
    assert record_of(yard, first) is State.EJECTED
    assert where(yard) == {1}


async def test_the_last_one_of_a_model_is_as_precious() -> None:
    yard = make_yard()
    yard.add(1, models=("a",))
    yard.add(2, models=("b",))
    yard.add(3, models=("b",))
    for _ in range(4):
        yard.answer(yard.ask("a"), 500)
    assert yard.ask("a").at == 1


async def test_one_that_was_ejected_gets_one_request_when_its_time_is_over() -> None:
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    for _ in range(2):
        yard.answer(pinned(yard, 1), 500)
    assert pinned(yard, 1).at == 2
    await asyncio.sleep(10)
    probe = pinned(yard, 1)
    assert (probe.at, pinned(yard, 1).at) == (1, 2)
    yard.answer(probe, 500)
    await asyncio.sleep(19.75)
    assert pinned(yard, 1).at == 2, "the second time it lasts twice as long"
    await asyncio.sleep(0.25)
    probe = pinned(yard, 1)
    assert probe.at == 1
    yard.answer(probe, 200)
    assert pinned(yard, 1).at == 1
    assert record_of(yard, first) is State.SERVING
    assert yard.events[-1] == EngineReturned(1, PORT)
    assert [each.for_s for each in yard.events if isinstance(each, EngineEjected)] == [10.0, 20.0]
    assert yard.dispatcher.targets.passive.ejections == 2


@pytest.mark.parametrize("how", ["client left", "way lost"])
async def test_a_probe_request_that_says_nothing_leaves_room_for_the_next(how: str) -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    for _ in range(2):
        yard.answer(pinned(yard, 1), 500)
    await asyncio.sleep(10)
    probe = pinned(yard, 1)
    assert (probe.at, pinned(yard, 1).at) == (1, 2)
    if how == "way lost":
        give_up(yard, probe, way_lost())
    else:
        yard.finish(probe)
    assert pinned(yard, 1).at == 1


async def test_one_that_does_not_accept_our_token_is_told_to_people() -> None:
    yard = make_yard()
    first = yard.add(1)
    yard.add(2)
    for _ in range(2):
        yard.answer(pinned(yard, 1), 401)
    assert yard.events == [TokenRefused(1, PORT, "HTTP 401")]
    assert where(yard) == {2}
    await asyncio.sleep(60)
    again = pinned(yard, 1)
    assert again.at == 1
    yard.answer(again, 200)
    assert record_of(yard, first) is State.SERVING
    assert yard.events[-1] == EngineReturned(1, PORT)


async def test_one_that_is_full_is_left_alone_for_as_long_as_it_asks() -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    yard.answer(pinned(yard, 1), 503, 7.0)
    assert where(yard) == {2}
    await asyncio.sleep(6.75)
    assert where(yard) == {2}
    await asyncio.sleep(0.25)
    assert where(yard) == {1, 2}
    assert yard.events == []


async def test_who_waits_is_served_when_a_pause_is_over() -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2, limit=1)
    yard.answer(pinned(yard, 1), 429, 5.0)
    assert pinned(yard, 2).at == 2
    caller = yard.ask()
    await asyncio.sleep(4.75)
    assert caller.waits
    await asyncio.sleep(0.25)
    assert (caller.at, caller.queued_s) == (1, 5.0)


async def test_one_that_has_answered_after_a_pause_is_like_any_other() -> None:
    """Nothing is noted of each request of it any more."""
    yard = make_yard()
    backend = yard.add(1)
    yard.answer(yard.ask(), 503, 2.0)
    assert yard.dispatcher.targets.passive.noted == {backend.engines[0].key}
    await asyncio.sleep(2)
    yard.answer(yard.ask(), 200)
    passive = yard.dispatcher.targets.passive
    assert (passive.noted, passive.out) == (set(), set())


async def test_one_that_comes_begins_with_a_small_share() -> None:
    yard = make_yard(PassiveHealthSettings(slow_start_s=20), routing=RoutingSettings(policy="least_loaded"))
    first = yard.add(1)
    await asyncio.sleep(20)
    yard.probe(first)
    assert first.engines[0].weight == 1.0
    second = yard.add(2)
    assert second.engines[0].weight == pytest.approx(0.1)
    places = [yard.ask().at for _ in range(11)]
    assert places.count(2) == 1
    await asyncio.sleep(10)
    yard.probe(second)
    assert second.engines[0].weight == pytest.approx(0.55)
    await asyncio.sleep(10)
    yard.probe(second)
    assert second.engines[0].weight == 1.0


async def test_another_engine_on_the_same_port_inherits_nothing() -> None:
    """Nor is it blamed for what its predecessor's last requests come to."""
    yard = make_yard()
    backend = yard.add(1)
    yard.add(2)
    old = backend.engines[0]
    running = [pinned(yard, 1) for _ in range(4)]
    targets = yard.dispatcher.targets
    for id, seconds in ((1, 10.0), (2, 1.0)):
        targets.measured(pinned(yard, id).place, seconds, 100_000, streamed=True)
    new = yard.engine(1)
    yard.probe(backend, new)
    begins_with = new.speed
    assert begins_with == yard.add(3).engines[0].speed
    yard.remove(yard.backends[3])
    give_up(yard, running[0], BROKEN_OFF, reached=True)
    yard.answer(running[1], 500)
    give_up(yard, running[2], UNREACHABLE)
    targets.measured(running[3].place, 1000.0, 100_000, streamed=True)
    yard.finish(running[3])
    assert (record_of(yard, backend), yard.events, yard.doubted) == (State.SERVING, [], [])
    assert where(yard) == {1, 2}
    targets.refresh(backend, serving=True)
    assert new.speed == begins_with
    assert (old.in_flight, backend.in_flight, new.in_flight) == (1, 1, 0)


async def test_speeds_are_learnt_from_what_answers_took() -> None:
    yard = make_yard()
    fast, slow = yard.add(1), yard.add(2)
    targets = yard.dispatcher.targets
    for _ in range(20):
        for id, seconds in ((1, 2.0), (2, 8.0)):
            caller = pinned(yard, id)
            targets.measured(caller.place, seconds, 100_000, streamed=True)
            targets.measured(caller.place, 0.001, 100_000, streamed=True)  # too short to tell
            yard.finish(caller)
    assert 3 < fast.engines[0].speed / slow.engines[0].speed <= 4


async def test_caps_are_the_engines_and_the_operators() -> None:
    yard = make_yard(admission=AdmissionSettings(max_in_flight_per_backend=3))
    small, large = yard.add(1, limit=2).engines[0], yard.add(2, limit=8).engines[0]
    assert (small.limit, large.limit) == (2, 3)
    assert [pinned(yard, 1).at for _ in range(4)] == [1, 1, 2, 2]


async def test_the_cost_is_the_instances() -> None:
    yard = make_yard(routing=RoutingSettings(policy="cheapest_first"))
    yard.add(1, cost=2.0)
    cheap = yard.add(2, cost=0.5)
    assert cheap.engines[0].hourly_cost == 0.5
    assert where(yard) == {2}


async def test_a_backend_that_is_another_one_by_now_takes_nothing_with_it() -> None:
    yard = make_yard()
    old = yard.add(1)
    running = yard.ask()
    new = yard.add(1)  # the same id, as after a restart
    yard.dispatcher.targets.forget(old)
    assert yard.ask().place.backend is new
    yard.finish(running)
    assert (old.in_flight, new.in_flight) == (0, 1)
