"""What a person may have done to an instance: its contract ended, its new host key accepted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.fleet_bench import FleetBench
from vastproxy.services.actions import NothingToTrust
from vastproxy.services.events import BackendRemoved, Heard
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.vastai import VastNotFound, VastRejected, VastUnauthorized
from vastproxy.vastai.handlers.events import Verdict

OLD, NEW, OTHER = "ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew", "ssh-ed25519 AAAAother"


@pytest.fixture
async def bench() -> AsyncIterator[FleetBench]:
    bench = FleetBench()
    async with bench.fleet:
        await bench.serve(1, 2)
        yield bench


# ── destroying ─────────────────────────────────────────────────────────────────────────────────


async def test_it_is_out_at_once_and_the_account_is_looked_at(bench: FleetBench) -> None:
    await bench.fleet.actions.destroy(1)
    assert bench.account.destroyed == [1]
    assert bench.fleet.backend_ids == (2,)
    assert {bench.lease().backend.id for _ in range(4)} == {2}
    assert BackendRemoved(1, "it was destroyed") in bench.events
    (heard,) = [event for event in bench.events if isinstance(event, Heard)]
    assert heard.decision.verdict is Verdict.POLL


async def test_lists_that_still_show_it_do_not_bring_it_back(bench: FleetBench) -> None:
    await bench.fleet.actions.destroy(1)
    for _ in range(3):
        await bench.fleet.sync()
        assert bench.fleet.backend_ids == (2,)
    bench.account.instances = [make_instance(id=2)]
    await bench.fleet.sync()
    bench.account.instances = [make_instance(id=1), make_instance(id=2)]
    await bench.fleet.sync()
    assert bench.fleet.backend_ids == (1, 2), (
        "an id that was gone from a list and is there again is another one's"
    )


async def test_a_list_that_is_not_complete_says_nothing_of_it(bench: FleetBench) -> None:
    await bench.fleet.actions.destroy(1)
    bench.account.instances, bench.account.skipped = [make_instance(id=2)], 1
    await bench.fleet.sync()
    bench.account.instances, bench.account.skipped = [make_instance(id=1), make_instance(id=2)], 0
    await bench.fleet.sync()
    assert bench.fleet.backend_ids == (2,)


async def test_one_that_has_gone_meanwhile_is_destroyed(bench: FleetBench) -> None:
    bench.account.destroy_error = VastNotFound("there is no instance 1", "no_such_instance")
    await bench.fleet.actions.destroy(1)
    assert bench.fleet.backend_ids == (2,)


@pytest.mark.parametrize(
    "error",
    [
        VastRejected("vast.ai said no", "invalid_args"),
        VastNotFound("no such page"),
        VastUnauthorized("this key may not", "auth_error"),
    ],
)
async def test_one_that_vast_ai_does_not_destroy_goes_on_serving(bench: FleetBench, error: Exception) -> None:
    bench.account.destroy_error = error
    with pytest.raises(type(error)):
        await bench.fleet.actions.destroy(1)
    assert bench.fleet.backend_ids == (1, 2)
    assert bench.states()[1] == "healthy"


async def test_one_that_is_not_served_is_not_destroyed(bench: FleetBench) -> None:
    with pytest.raises(KeyError):
        await bench.fleet.actions.destroy(3)
    assert bench.account.destroyed == []


async def test_two_orders_at_once_are_one(bench: FleetBench) -> None:
    await asyncio.gather(bench.fleet.actions.destroy(1), bench.fleet.actions.destroy(1))
    assert bench.fleet.backend_ids == (2,)
    assert bench.events.count(BackendRemoved(1, "it was destroyed")) == 1


# ── host keys ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def pins(bench: FleetBench, tmp_path: FilePath) -> HostKeyPins:
    """The pins of the SSH engine; instance 1 has shown another key on both paths."""
    pins = HostKeyPins(tmp_path / "pins.json", clock=lambda: 1_767_225_600)
    identity = make_instance(id=1).identity
    for path in Path:
        await pins.trust(identity, path, OLD)
        await pins.refuse(identity, path, NEW, address="192.0.2.7:22")
    bench.engine.host_keys = PinnedHostKeys(pins)
    return pins


def keys_of(pins: HostKeyPins) -> list[str | None]:
    identity = make_instance(id=1).identity
    return [pins.pinned(identity, path) for path in Path]


async def test_the_refused_keys_are_pinned_and_it_is_dialled_at_once(
    bench: FleetBench, pins: HostKeyPins
) -> None:
    bench.fleet.wake(1).clear()
    accepted = await bench.fleet.actions.trust(1)
    assert [change.path for change in accepted] == list(Path)
    assert keys_of(pins) == [NEW, NEW]
    assert bench.fleet.wake(1).is_set()
    assert await bench.fleet.actions.changed_keys(1) == ()


async def test_one_path_or_certain_keys_alone(bench: FleetBench, pins: HostKeyPins) -> None:
    await bench.fleet.actions.trust(1, path=Path.RELAY, keys=[NEW])
    assert keys_of(pins) == [OLD, NEW]
    with pytest.raises(NothingToTrust, match="yet another host key"):
        await bench.fleet.actions.trust(1, keys=[OTHER])
    assert keys_of(pins) == [OLD, NEW]


async def test_a_key_that_changed_after_somebody_looked_is_not_trusted(
    bench: FleetBench, pins: HostKeyPins
) -> None:
    await pins.refuse(make_instance(id=1).identity, Path.DIRECT, OTHER, address="192.0.2.8:22")
    accepted = await bench.fleet.actions.trust(1, keys=[NEW])
    assert [change.path for change in accepted] == [Path.RELAY]
    assert keys_of(pins) == [OLD, NEW]


async def test_keys_of_an_earlier_life_are_not_its_own(bench: FleetBench, pins: HostKeyPins) -> None:
    later = replace(make_instance(id=1), start_date=1_799_999_999.0)
    bench.account.instances = [later, make_instance(id=2)]
    await bench.fleet.sync()
    assert await bench.fleet.actions.changed_keys(1) == ()


async def test_nothing_waits(bench: FleetBench, pins: HostKeyPins) -> None:
    assert await bench.fleet.actions.changed_keys(2) == ()
    with pytest.raises(NothingToTrust, match="nothing to trust"):
        await bench.fleet.actions.trust(2)
    with pytest.raises(KeyError):
        await bench.fleet.actions.trust(3)
    with pytest.raises(KeyError):
        await bench.fleet.actions.changed_keys(3)


async def test_an_engine_that_tells_nothing_of_host_keys(bench: FleetBench) -> None:
    assert await bench.fleet.actions.changed_keys(1) == ()
    with pytest.raises(NothingToTrust):
        await bench.fleet.actions.trust(1)
