"""Who is to get no new work: by whose order, and until when."""

import random
from dataclasses import replace

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.memory import MemoryEngine
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.keeper import Keeper
from vastproxy.services.backends.keeping import KeeperTools
from vastproxy.services.backends.state import Event, State
from vastproxy.services.drains import Drains
from vastproxy.services.tasks import Tasks
from vastproxy.settings import Settings

NOW = 1_790_000_000.0
AHEAD_S = 600.0


class Contract:
    """One instance whose contract ends, and what drains it."""

    def __init__(self, ends_in_s: float | None, *, ahead_s: float = AHEAD_S) -> None:
        self.now = NOW
        self.drains = Drains(ahead_s=ahead_s, clock=lambda: self.now, wall_clock=lambda: self.now)
        self.told: list[tuple[Event, str]] = []
        self.backend = self._backend(ends_in_s)
        self.keeper = self._keeper()

    def _backend(self, ends_in_s: float | None) -> Backend:
        end = None if ends_in_s is None else NOW + ends_in_s
        backend = Backend(
            make_instance(end_date=end),
            token=None,
            now=0.0,
            last_seen=0,
            on_event=lambda backend, before, event, detail: self.told.append((event, detail)),
        )
        backend.step(Event.DIAL, 0.0)
        backend.step(Event.SERVING, 0.0)
        self.told.clear()
        return backend

    def _keeper(self) -> Keeper:
        tools = KeeperTools(
            MemoryEngine(), Settings(), Tasks("test"), lambda: 0.0, random.Random(1), lambda *_: None
        )
        return Keeper(self.backend, tools)

    def ends_at(self, at: float | None) -> None:
        """The account shows another end."""
        self.backend.instance = replace(self.backend.instance, end_date=at)

    def look(self, after_s: float = 0.0) -> State:
        self.now += after_s
        self.drains.look(self.keeper)
        return self.backend.state

    def serve(self) -> None:
        self.backend.step(Event.SERVING, 0.0)


async def test_an_instance_whose_contract_is_about_to_end_gets_no_new_work() -> None:
    contract = Contract(AHEAD_S + 60)
    assert contract.look() is State.HEALTHY
    assert contract.look(59) is State.HEALTHY
    assert contract.look(1) is State.DRAINING
    assert contract.told == [(Event.DRAIN, "its contract ends in 10 min")]
    assert contract.look(30) is State.DRAINING
    assert len(contract.told) == 1
    assert contract.look(AHEAD_S) is State.DRAINING, "the end has come, and the instance runs on for a moment"


@pytest.mark.parametrize("ends_in_s", [None, -5.0, 0.0])
async def test_no_end_or_one_that_is_over_tells_nothing(ends_in_s: float | None) -> None:
    assert Contract(ends_in_s).look() is State.HEALTHY


async def test_who_wants_no_such_drain_gets_none() -> None:
    contract = Contract(5.0, ahead_s=0.0)
    assert contract.look() is State.HEALTHY
    assert contract.look(4.5) is State.HEALTHY


async def test_a_contract_that_is_longer_again_takes_its_order_back() -> None:
    contract = Contract(60.0)
    contract.look()
    contract.ends_at(NOW + AHEAD_S)
    assert contract.look() is State.DRAINING, "not longer by enough"
    contract.ends_at(None)
    assert contract.look() is State.DRAINING, "a row without an end says nothing"
    contract.ends_at(NOW + AHEAD_S + 3600)
    assert contract.look() is State.UNHEALTHY, "it serves after the next good probe"
    assert contract.keeper.wake.is_set()
    contract.serve()
    assert contract.look(3600) is State.DRAINING, "and the new end counts when it is near"


@pytest.mark.parametrize("moved_s", [0.0, 120.0])
async def test_somebody_overrules_the_contract(moved_s: float) -> None:
    """Also where the end has moved a little since it was drained for it."""
    contract = Contract(60.0)
    contract.look()
    contract.ends_at(NOW + 60 + moved_s)
    contract.look()
    contract.drains.undrain(contract.keeper)
    contract.serve()
    assert contract.look(30) is State.HEALTHY
    contract.ends_at(NOW + 400)
    assert contract.look() is State.DRAINING, "that is another end"


async def test_an_order_of_a_persons_holds_whatever_the_contract_says() -> None:
    contract = Contract(60.0)
    contract.look()
    contract.drains.drain(contract.keeper)
    contract.ends_at(NOW + 86_400)
    assert contract.look() is State.DRAINING
    contract.drains.undrain(contract.keeper)
    assert contract.backend.state is State.UNHEALTHY


async def test_an_order_that_is_taken_back_near_the_end_is_not_given_again_by_the_contract() -> None:
    contract = Contract(60.0)
    contract.drains.drain(contract.keeper, "for its owner")
    assert contract.look() is State.DRAINING
    contract.drains.undrain(contract.keeper)
    contract.serve()
    assert contract.look() is State.HEALTHY
    assert contract.told[0] == (Event.DRAIN, "for its owner")


async def test_taking_back_what_nobody_has_ordered_changes_nothing() -> None:
    contract = Contract(None)
    contract.drains.undrain(contract.keeper)
    assert (contract.backend.state, contract.told) == (State.HEALTHY, [])
    assert not contract.keeper.wake.is_set()


async def test_one_that_leaves_is_left_in_peace() -> None:
    contract = Contract(60.0)
    contract.backend.step(Event.VANISHED, 0.0)
    assert contract.look() is State.REMOVING


async def test_of_one_that_is_gone_nothing_is_remembered() -> None:
    contract = Contract(60.0)
    contract.look()
    contract.drains.undrain(contract.keeper)
    contract.drains.forget(contract.backend.id)
    contract.drains.forget(contract.backend.id)
    contract.serve()
    assert contract.look() is State.DRAINING
    contract.drains.forget(contract.backend.id)
    contract.ends_at(NOW + 86_400)
    assert contract.look() is State.DRAINING, "nobody remembers that it was for the contract"
