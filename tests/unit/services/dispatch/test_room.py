"""Whatever may free a place, who waits for it is looked at. Caps are kept."""

import asyncio

import pytest

from tests.helpers.dispatching import full, make_yard, step, way_lost
from vastproxy.services.backends.state import Event
from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings

pytestmark = pytest.mark.virtual_time


async def test_who_waits_for_a_model_is_served_when_an_engine_lists_it() -> None:
    yard = make_yard()
    first = yard.add(1, models=("a",))
    gone = yard.add(2, models=("b",))
    yard.remove(gone)
    caller = yard.ask("b")
    assert caller.waits
    yard.lists(first.engines[0], "a", "b")
    await step()
    assert caller.at == 1


async def test_who_waits_is_served_when_an_engine_takes_more() -> None:
    yard = make_yard()
    backend = yard.add(1, limit=1)
    full(yard)
    callers = [yard.ask() for _ in range(3)]
    yard.resize(backend.engines[0], 3)
    await step()
    assert [each.waits for each in callers] == [False, False, True]


@pytest.mark.parametrize("how", ["drained", "gone", "ill"])
async def test_one_that_was_left_alone_serves_when_the_others_go(how: str) -> None:
    """The last one is never left alone, and who waits need not wait for the end of its ejection."""
    yard = make_yard(passive=PassiveHealthSettings(engine_failures=1, ejection_s=50, slow_start_s=0))
    yard.add(1)
    failing = yard.ask()
    yard.answer(failing, 500)
    other = yard.add(2, limit=1)
    full(yard)
    caller = yard.ask()
    await step()
    assert caller.waits
    if how == "drained":
        other.step(Event.DRAIN, yard.clock())
    elif how == "gone":
        yard.remove(other)
    else:
        yard.ill(other.engines[0])
    await step()
    assert caller.at == 1


async def test_one_that_was_left_alone_serves_when_another_is_left_alone_for_longer() -> None:
    """Of two that fail one is always asked: the one whose time is over first."""
    yard = make_yard(passive=PassiveHealthSettings(engine_failures=1, ejection_s=50, slow_start_s=0))
    yard.add(1, limit=1)
    yard.answer(yard.ask(), 500)
    await asyncio.sleep(5)
    yard.add(2, limit=2)
    running = full(yard, 2)
    assert {each.at for each in running} == {2}
    caller = yard.ask()
    yard.dispatcher.answered(running[0], 500)
    await step()
    assert caller.at == 1


async def test_one_that_waits_again_leaves_its_place_under_the_cap_to_others() -> None:
    yard = make_yard(admission=AdmissionSettings(max_in_flight=1))
    yard.add(1, models=("a",))
    yard.add(2, models=("b",))
    (running,) = full(yard, model="a")
    other = yard.ask("b")
    assert other.waits
    yard.cut_off(yard.backends[1])
    await step()
    yard.fail(running, way_lost())
    assert running.waits
    await step()
    assert other.at == 2
    yard.finish(other)
    yard.reconnect(yard.backends[1])
    await step()
    assert running.at == 1


async def test_a_place_under_the_cap_is_one_for_any_model() -> None:
    yard = make_yard(admission=AdmissionSettings(max_in_flight=1))
    yard.add(1, models=("a",))
    yard.add(2, models=("b",))
    (running,) = full(yard, model="a")
    other = yard.ask("b")
    yard.finish(running)
    await step()
    assert other.at == 2


async def test_the_caps_of_all_and_of_a_key() -> None:
    yard = make_yard(admission=AdmissionSettings(max_in_flight=3, max_in_flight_per_key=2))
    yard.add(1)
    x = [yard.ask(asker="x") for _ in range(3)]
    assert [each.waits for each in x] == [False, False, True]
    y = [yard.ask(asker="y") for _ in range(2)]
    assert [each.waits for each in y] == [False, True]
    yard.finish(x[0])
    await step()
    assert sorted(each.waits for each in (x[2], y[1])) == [False, True]


async def test_what_ends_at_a_replaced_engine_does_not_hide_what_ended_at_its_successor() -> None:
    yard = make_yard()
    backend = yard.add(1, limit=1)
    (old,) = full(yard)
    yard.probe(backend, yard.engine(1, limit=2))
    (new,) = full(yard)
    caller = yard.ask()
    yard.finish(new)
    yard.finish(old)
    await step()
    assert caller.at == 1


async def test_the_end_of_a_request_from_before_makes_room_at_who_came_in_its_stead() -> None:
    yard = make_yard()
    backend = yard.add(1, limit=1)
    (old,) = full(yard)
    yard.probe(backend, yard.engine(1, limit=1))
    caller = yard.ask()
    await step()
    assert caller.waits
    yard.finish(old)
    await step()
    assert caller.at == 1
