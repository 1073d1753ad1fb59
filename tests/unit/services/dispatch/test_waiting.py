"""Who waits, for how long, in whose company, and what he is told. Step by step of the loop, in virtual time."""

import asyncio

import pytest

from tests.helpers.dispatching import Caller, full, make_yard, step
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.errors import NoBackendAvailable, OverLimit
from vastproxy.services.routing.ticket import Priority
from vastproxy.settings.admission import QueueSettings

pytestmark = pytest.mark.virtual_time


async def test_who_waits_is_told_in_a_step_of_its_own_and_is_not_overtaken() -> None:
    yard = make_yard()
    yard.add(1, limit=1)
    (running,) = full(yard)
    first, second = yard.ask(), yard.ask()
    yard.finish(running)
    late = yard.ask()
    assert first.waits, "told within somebody else's call"
    assert late.waits, "it came after the place was free, and before it was given"
    await step()
    assert (first.at, second.waits, late.waits) == (1, True, True)
    yard.finish(first)
    await step()
    assert (second.at, late.waits) == (1, True)
    yard.finish(second)
    await step()
    assert late.at == 1


async def test_a_client_that_leaves_the_queue_costs_nothing() -> None:
    yard = make_yard()
    yard.add(1, limit=1)
    (running,) = full(yard)
    left, stays = yard.ask(), yard.ask()
    await asyncio.sleep(2)
    yard.finish(left)
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting, left.queued_s) == (1, 1, 2.0)
    yard.finish(running)
    await step()
    assert (left.heard, stays.at, stays.queued_s) == ([], 1, 2.0)


async def test_a_client_that_leaves_between_the_place_and_the_step_is_not_told() -> None:
    yard = make_yard()
    yard.add(1, limit=1)
    (running,) = full(yard)
    first, second = yard.ask(), yard.ask()
    yard.finish(running)
    yard.finish(first)
    await step()
    assert (first.heard, second.at) == ([], 1)


async def test_a_wait_that_is_over_is_told_in_time_and_with_when_to_come_back() -> None:
    yard = make_yard(queue=QueueSettings(max_wait_s=30, batch_max_wait_s=90))
    yard.add(1, limit=1)
    full(yard)
    caller, batch = yard.ask(), yard.ask(priority=Priority.BATCH)
    await asyncio.sleep(29.75)
    assert caller.waits
    await asyncio.sleep(0.25)
    await step()
    assert isinstance(caller.error, NoBackendAvailable)
    assert "no backend became free in time" in str(caller.error)
    assert caller.error.retry_after_s >= 1
    assert (caller.queued_s, batch.waits, yard.dispatcher.waiting) == (30.0, True, 1)
    await asyncio.sleep(60.25)
    assert isinstance(batch.error, NoBackendAvailable)


async def test_a_place_in_the_queue_survives_that_nobody_is_there() -> None:
    yard = make_yard()
    backend = yard.add(1)
    yard.remove(backend)
    caller = yard.ask()
    assert caller.waits
    await asyncio.sleep(50)
    yard.add(2)
    await step()
    assert (caller.at, caller.queued_s) == (2, 50.0)


async def test_who_waits_in_vain_for_nobody_is_told_why_nobody_is_there() -> None:
    yard = make_yard()
    yard.remove(yard.add(1))
    caller = yard.ask()
    await asyncio.sleep(61)
    assert "can be asked now: no instances" in str(caller.error)


async def test_where_nobody_may_come_nobody_waits() -> None:
    yard = make_yard()
    yard.is_expecting = False
    caller = yard.ask()
    assert str(caller.error) == "no backend can serve now: no instances"
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting) == (0, 0)


async def test_without_a_queue_nobody_waits() -> None:
    yard = make_yard(queue=QueueSettings(max_waiting=0))
    yard.add(1, limit=1)
    (running,) = full(yard)
    assert isinstance(yard.ask().error, NoBackendAvailable)
    assert isinstance(yard.fail(running).error, NoBackendAvailable)
    assert yard.dispatcher.waiting == 0


async def test_each_class_has_a_queue_of_its_own_or_none() -> None:
    """Also for requests that were served already and have to wait once more."""
    yard = make_yard(queue=QueueSettings(max_waiting=0))
    yard.add(1)
    batch = yard.ask(priority=Priority.BATCH)
    assert yard.fail(batch).waits
    yard = make_yard(queue=QueueSettings(batch_max_waiting=0))
    yard.add(1)
    batch = yard.ask(priority=Priority.BATCH)
    assert isinstance(yard.fail(batch).error, NoBackendAvailable)


async def test_a_key_with_too_many_waiting_is_told_so_and_others_are_not() -> None:
    yard = make_yard(queue=QueueSettings(max_waiting=3, max_waiting_per_key=1))
    yard.add(1, limit=1)
    full(yard)
    assert yard.ask(asker="x").waits
    assert isinstance(yard.ask(asker="x").error, OverLimit)
    assert yard.ask(asker="y").waits
    assert yard.ask(asker=None).waits
    assert isinstance(yard.ask(asker="z").error, NoBackendAvailable)


async def test_one_whose_telling_fails_does_not_keep_the_others_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    yard = make_yard()
    yard.add(1, limit=2)
    running = full(yard, 2)
    deaf = Claim()
    deaf.model = "m"
    assert yard.dispatcher.ask(deaf) is None  # a bare claim cannot be told
    caller = yard.ask()
    for each in running:
        yard.finish(each)
    await step()
    assert caller.at == 1
    assert "could not be told" in caplog.text
    yard.dispatcher.finish(deaf)


async def test_at_the_end_who_waits_is_told_and_nobody_is_served_any_more() -> None:
    yard = make_yard()
    yard.add(1, limit=1)
    (running,) = full(yard)
    caller = yard.ask()
    await asyncio.sleep(3)
    yard.dispatcher.aclose()
    assert isinstance(caller.error, NoBackendAvailable)
    assert caller.queued_s == 3.0
    yard.finish(running)
    await step()
    assert len(caller.heard) == 1
    assert isinstance(yard.ask().error, NoBackendAvailable), "there is an engine with a place"
    yard.finish(caller)
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting) == (0, 0)


async def test_more_may_not_wait_than_the_queue_takes() -> None:
    yard = make_yard(queue=QueueSettings(max_waiting=2))
    yard.add(1, limit=1)
    full(yard)
    callers = [yard.ask() for _ in range(4)]
    assert [each.waits for each in callers] == [True, True, False, False]
    assert all(isinstance(each.error, NoBackendAvailable) for each in callers[2:])


async def test_askers_take_turns() -> None:
    """Who has asked a hundred times waits as long as who asks once."""
    yard = make_yard()
    yard.add(1, limit=1)
    (running,) = full(yard)
    many = [yard.ask(asker="x") for _ in range(5)]
    once = yard.ask(asker="y")
    order = []
    for _ in range(6):
        yard.finish(running)
        await step()
        running = next(each for each in (*many, once) if each.heard and each not in order)
        order.append(running)
    assert order.index(once) == 1
    assert [each for each in order if each is not once] == many


async def test_batch_takes_what_interactive_requests_leave_and_does_not_starve() -> None:
    yard = make_yard(queue=QueueSettings(batch_after=2))
    yard.add(1, limit=1)
    (running,) = full(yard)
    batch = [yard.ask(priority=Priority.BATCH) for _ in range(2)]
    interactive = [yard.ask() for _ in range(4)]
    order = ""
    told: list[Caller] = []
    for _ in range(6):
        yard.finish(running)
        await step()
        running = next(each for each in (*batch, *interactive) if each.heard and each not in told)
        told.append(running)
        order += "b" if running in batch else "i"
    assert order == "iibiib"
