"""Who serves, of those that can: by policy, pin, session and model."""

import asyncio
import random

import pytest

from tests.helpers.dispatching import BROKEN_OFF, Caller, make_yard, step
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.errors import ModelNotFound, NoBackendAvailable
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.ticket import Priority
from vastproxy.settings.admission import QueueSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time


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
