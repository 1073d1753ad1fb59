"""Who gets a place, who waits, who is told what; step by step of the loop and in virtual time."""

import asyncio
import random

import pytest

from tests.helpers.dispatching import BROKEN_OFF, UNREACHABLE, Caller, Yard, way_lost
from vastproxy.services.backends.state import Event
from vastproxy.services.dispatch.claim import MAX_ATTEMPTS, Claim, Lease
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.errors import ModelNotFound, NoBackendAvailable, OverLimit, ServiceError
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.settings.admission import AdmissionSettings, PassiveHealthSettings, QueueSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time


def make_yard(**settings: object) -> Yard:
    return Yard(asyncio.get_running_loop().time, **settings)  # type: ignore[arg-type]


async def step() -> None:
    """The next steps of the loop, in no time."""
    for _ in range(4):
        await asyncio.sleep(0)


def full(yard: Yard, count: int = 1, model: str = "m") -> list[Caller]:
    """So many requests that all have a place."""
    callers = [yard.ask(model) for _ in range(count)]
    assert not any(each.waits for each in callers)
    return callers


# ── waiting ────────────────────────────────────────────────────────────────────────────────────


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
    assert "no backend can serve now: no instances" in str(caller.error)


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


# ── what frees a place ─────────────────────────────────────────────────────────────────────────


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
    yard.fail(running)
    assert running.waits
    await step()
    assert other.at == 2
    yard.finish(other)
    yard.probe(yard.backends[1])
    await step()
    assert running.at == 1


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


# ── elsewhere ──────────────────────────────────────────────────────────────────────────────────


async def test_a_request_goes_to_one_that_has_not_failed_it() -> None:
    yard = make_yard()
    for id in (1, 2, 3):
        yard.add(id)
    caller = yard.ask()
    places = [caller.at]
    for _ in range(2):
        places.append(yard.fail(caller, way_lost()).at)
    assert sorted(places) == [1, 2, 3]
    assert (yard.dispatcher.in_flight, caller.attempts) == (1, 3)


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


# ── spread ─────────────────────────────────────────────────────────────────────────────────────


async def test_under_round_robin_equal_backends_differ_by_one_request_at_most() -> None:
    yard = make_yard()
    for id in range(1, 6):
        yard.add(id)
    for _ in range(53):
        yard.ask()
        loads = [each.in_flight for each in yard.backends.values()]
        assert max(loads) - min(loads) <= 1


async def test_under_least_loaded_a_backend_half_as_fast_gets_about_half() -> None:
    """Speeds are not told: they are learnt from the answers of engines that share what they can do evenly."""
    yard = make_yard(routing=RoutingSettings(policy="least_loaded"))
    for id in (1, 2):
        yard.add(id)
    bytes_per_s = {1: 40_000, 2: 20_000}
    rng = random.Random(3)
    running: list[tuple[float, Caller]] = []
    served = {1: 0, 2: 0}
    for number in range(3_000):
        now = yard.clock()
        if len(running) == 24:
            running.sort(key=lambda each: each[0])
            ends_at, caller = running.pop(0)
            await asyncio.sleep(max(0.0, ends_at - now))
            size, lease = caller.received_bytes, caller.place
            yard.dispatcher.answered(caller, 200)
            yard.dispatcher.targets.measured(lease, yard.clock() - lease.at, size, streamed=True)
            yard.finish(caller)
        caller = yard.ask()
        size = caller.received_bytes = rng.randrange(10_000, 90_000)
        running.append((yard.clock() + size * caller.place.among / bytes_per_s[caller.at], caller))
        if number >= 1_000:
            served[caller.at] += 1
    assert 0.4 <= served[2] / served[1] <= 0.62, served


# ── pins and sessions ──────────────────────────────────────────────────────────────────────────


async def test_pins_and_sessions_are_kept_while_their_place_serves() -> None:
    yard = make_yard()
    for id in (1, 2, 3):
        yard.add(id)
    assert {yard.ask(hint=Hint(pin=2)).at for _ in range(4)} == {2}
    home = yard.ask(hint=Hint(session=7)).at
    assert {yard.ask(hint=Hint(session=7)).at for _ in range(4)} == {home}
    yard.remove(yard.backends[home])
    moved = yard.ask(hint=Hint(session=7)).at
    assert moved != home
    assert {yard.ask(hint=Hint(session=7)).at for _ in range(4)} == {moved}


# ── models ─────────────────────────────────────────────────────────────────────────────────────


async def test_engines_of_one_instance_are_chosen_by_the_model() -> None:
    yard = make_yard()
    chat = yard.engine(1, 18000, ("chat",))
    embed = yard.engine(1, 18001, ("embed",))
    backend = yard.add(1, chat, embed)
    for _ in range(3):
        assert yard.ask("chat").place.engine is chat
        assert yard.ask("embed").place.engine is embed
    assert {yard.ask(ANY_MODEL).place.engine for _ in range(4)} == {chat, embed}
    assert backend.in_flight == chat.in_flight + embed.in_flight == 10


async def test_an_engine_that_is_ill_does_not_stop_its_neighbour() -> None:
    yard = make_yard()
    chat, embed = yard.engine(1, 18000, ("chat",)), yard.engine(1, 18001, ("embed",))
    yard.add(1, chat, embed)
    yard.ill(chat)
    assert yard.ask("embed").place.engine is embed
    caller = yard.ask("chat")
    assert caller.waits, "its model is known, and may come back"
    yard.well(chat)
    await step()
    assert caller.place.engine is chat


async def test_a_model_that_nobody_has_is_refused_with_those_that_are_served() -> None:
    yard = make_yard()
    yard.add(1, models=("a", "b"))
    caller = yard.ask("c")
    assert isinstance(caller.error, ModelNotFound)
    assert "'c' is not served here. Served: a, b." in str(caller.error)
    assert (yard.dispatcher.in_flight, yard.dispatcher.waiting) == (0, 0)


async def test_a_model_whose_memory_ends_while_it_is_waited_for() -> None:
    """It was served half an hour ago: who still waits for it is told at his deadline, and nobody else is held up."""
    yard = make_yard(queue=QueueSettings(batch_max_wait_s=3600))
    yard.add(1, models=("a",))
    yard.remove(yard.add(2, models=("b",)))
    waits = yard.ask("b", priority=Priority.BATCH)
    await asyncio.sleep(1900)
    assert isinstance(yard.ask("b").error, ModelNotFound)
    assert yard.ask("a").at == 1
    await asyncio.sleep(1701)
    assert isinstance(waits.error, NoBackendAvailable)


async def test_a_retry_of_a_model_that_nobody_has_any_more_is_refused() -> None:
    yard = make_yard()
    yard.add(1, models=("a",))
    backend = yard.add(2, models=("b",))
    caller = yard.ask("b")
    yard.remove(backend)
    await asyncio.sleep(1900)
    assert not yard.dispatcher.others(caller)
    assert isinstance(yard.fail(caller, BROKEN_OFF).error, ModelNotFound)
    assert yard.dispatcher.in_flight == 0


def errors_of(callers: list[Caller]) -> list[type[ServiceError]]:
    return [type(each.error) for each in callers if not isinstance(each.heard[-1], Lease)]


async def test_more_may_not_wait_than_the_queue_takes() -> None:
    yard = make_yard(queue=QueueSettings(max_waiting=2))
    yard.add(1, limit=1)
    full(yard)
    callers = [yard.ask() for _ in range(4)]
    assert [each.waits for each in callers] == [True, True, False, False]
    assert errors_of(callers[2:]) == [NoBackendAvailable] * 2
