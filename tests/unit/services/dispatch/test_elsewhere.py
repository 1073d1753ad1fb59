"""A request whose engine has failed it gets another place, waits for one, or is told; within a budget."""

import asyncio

import pytest

from tests.helpers.dispatching import UNREACHABLE, full, make_yard, step, way_lost
from vastproxy.services.dispatch.claim import MAX_ATTEMPTS
from vastproxy.services.routing.policy import Hint
from vastproxy.settings.admission import PassiveHealthSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time


async def test_a_request_goes_to_one_that_has_not_failed_it() -> None:
    yard = make_yard()
    for id in (1, 2, 3):
        yard.add(id)
    caller = yard.ask(hint=Hint(pin=1))
    places = [caller.at]
    for _ in range(2):
        places.append(yard.fail(caller, way_lost()).at)
    assert places[0] == 1
    assert sorted(places) == [1, 2, 3]
    assert (yard.dispatcher.in_flight, caller.attempts) == (1, 3)


async def test_the_only_one_that_has_not_failed_it_is_asked_though_it_is_left_alone() -> None:
    yard = make_yard(passive=PassiveHealthSettings(engine_failures=1, slow_start_s=0))
    yard.add(1)
    yard.add(2)
    yard.answer(yard.ask(hint=Hint(pin=2)), 500)
    caller = yard.ask(hint=Hint(pin=2))
    assert caller.at == 1
    assert yard.fail(caller, way_lost()).at == 2


async def test_one_that_all_have_failed_waits_and_is_served_when_one_comes_back() -> None:
    yard = make_yard()
    backend = yard.add(1)
    caller = yard.ask()
    assert yard.fail(caller).waits
    assert yard.doubted == [1]
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting, backend.in_flight) == (0, 1, 0)
    await asyncio.sleep(5)
    yard.probe(backend)
    await step()
    assert (caller.at, caller.queued_s, yard.dispatcher.in_flight) == (1, 5.0, 1)
    yard.finish(caller)
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting) == (0, 0)


async def test_one_that_all_have_failed_is_refused_where_nobody_may_come() -> None:
    yard = make_yard()
    backend = yard.add(1)
    caller = yard.ask()
    yard.remove(backend)
    yard.is_expecting = False
    assert str(yard.fail(caller).error) == "no backend can serve now: no instances"
    assert yard.dispatcher.in_flight == 0


async def test_others_are_those_that_are_there_now() -> None:
    """An answer that could be passed on must not be thrown away for one that has just gone."""
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    caller = yard.ask()
    assert yard.dispatcher.others(caller)
    other = yard.backends[3 - caller.at]
    yard.ill(other.engines[0])
    assert not yard.dispatcher.others(caller)
    yard.well(other.engines[0])
    assert yard.dispatcher.others(caller)
    yard.resize(other.engines[0], 1)
    assert yard.ask(hint=Hint(pin=other.id)).at == other.id
    assert not yard.dispatcher.others(caller)


async def test_retries_that_cost_are_bounded_and_given_back_once() -> None:
    yard = make_yard(routing=RoutingSettings(policy="round_robin", retry_least=1))
    for id in (1, 2, 3):
        yard.add(id)
    one, two = full(yard, 2)
    yard.fail(one, way_lost(), costly=True)
    assert (one.budgeted, yard.dispatcher.may_retry) == (True, False)
    yard.dispatcher.answered(one, 200)
    assert (one.budgeted, yard.dispatcher.may_retry) == (False, True)
    yard.fail(two, way_lost(), costly=True)
    yard.finish(two)
    yard.finish(two)
    yard.finish(one)
    assert (yard.dispatcher.may_retry, yard.dispatcher.in_flight) == (True, 0)
    assert [each.in_flight for each in yard.backends.values()] == [0, 0, 0]
    assert [each.in_flight for each in yard.engines] == [0, 0, 0]


async def test_a_retry_that_waits_keeps_its_part_of_the_budget() -> None:
    """Else all that a lost host had would be asked again of the one that is left."""
    yard = make_yard(routing=RoutingSettings(policy="round_robin", retry_least=1))
    yard.add(1, limit=1)
    yard.add(2, limit=1)
    one, _ = full(yard, 2)
    assert yard.fail(one, UNREACHABLE, costly=True).waits
    assert not yard.dispatcher.may_retry
    yard.finish(one)
    assert yard.dispatcher.may_retry


async def test_the_story_of_many_attempts_is_bounded() -> None:
    yard = make_yard()
    yard.add(1)
    yard.add(2)
    caller = yard.ask()
    for _ in range(MAX_ATTEMPTS + 5):
        caller.tried = ()
        yard.fail(caller, way_lost())
    assert (len(caller.leases), caller.attempts) == (MAX_ATTEMPTS, MAX_ATTEMPTS + 6)
    assert caller.leases[-1] is caller.lease


async def test_a_second_attempt_at_the_same_place_counts_once() -> None:
    yard = make_yard()
    backend = yard.add(1)
    (caller,) = full(yard)
    caller.lease = caller.place.again(1.0)
    yard.finish(caller)
    assert (backend.in_flight, backend.engines[0].in_flight, yard.dispatcher.in_flight) == (0, 0, 0)
