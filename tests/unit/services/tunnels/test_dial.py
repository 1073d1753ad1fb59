"""The race between an instance's addresses, in virtual time."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from vastproxy.services.errors import KeyRefused, TunnelError, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.base import CommandResult, Path, SshAddress, StreamProtocolT, TunnelTarget
from vastproxy.services.tunnels.dial import dial
from vastproxy.services.tunnels.hostcheck import HostKeyRefused

pytestmark = pytest.mark.virtual_time

DIRECT = SshAddress("192.0.2.7", 41022, Path.DIRECT)
RELAY = SshAddress("ssh5.vast.ai", 11023, Path.RELAY)
OTHER = SshAddress("ssh5.vast.ai", 11022, Path.RELAY)
TARGET = TunnelTarget(7, "7@1", (DIRECT, RELAY, OTHER))


class FakeTunnel:
    def __init__(self, address: SshAddress) -> None:
        self.address = address
        self.is_alive = True
        self.is_doubted = False
        self.on_doubt: Callable[[bool], None] | None = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = "127.0.0.1"
    ) -> StreamProtocolT:
        raise NotImplementedError

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        raise NotImplementedError

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_alive = False


@dataclass
class FakeEngine:
    """Answers at an address after some seconds, with a tunnel or an error; never where nothing is planned."""

    plan: dict[SshAddress, tuple[float, Exception | None]]
    begun: dict[SshAddress, float] = field(default_factory=dict)
    turns: asyncio.Event | None = None
    ended: set[SshAddress] = field(default_factory=set)
    tunnels: list[FakeTunnel] = field(default_factory=list)

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> FakeTunnel:
        if self.turns is not None:
            await self.turns.wait()
        if begun is not None:
            begun()
        self.begun[address] = asyncio.get_running_loop().time()
        try:
            after_s, error = self.plan.get(address, (1e6, None))
            await asyncio.sleep(after_s)
            if error is not None:
                raise error
            self.tunnels.append(FakeTunnel(address))
            return self.tunnels[-1]
        finally:
            self.ended.add(address)

    async def recycled(self, identity: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def only_open(self) -> SshAddress | None:
        """The address of the one tunnel that is open; checks that every attempt has ended."""
        assert self.ended == set(self.begun)
        alive = [tunnel.address for tunnel in self.tunnels if tunnel.is_alive]
        assert len(alive) <= 1
        return alive[0] if alive else None


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_direct_path_that_answers_leaves_the_relay_alone() -> None:
    engine = FakeEngine({DIRECT: (2.9, None), RELAY: (0, None)})
    tunnel = await dial(engine, TARGET)
    assert (tunnel.address, set(engine.begun)) == (DIRECT, {DIRECT})
    assert now() == pytest.approx(2.9)
    assert engine.only_open() == DIRECT


async def test_after_a_failure_the_next_address_is_tried_at_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine({DIRECT: (0.1, TunnelLost("direct down")), RELAY: (0.2, None)})
    with caplog.at_level(logging.INFO):
        tunnel = await dial(engine, TARGET)
    assert tunnel.address == RELAY
    assert now() == pytest.approx(0.3)
    assert caplog.messages == ["direct down; connected over relay ssh5.vast.ai:11023 instead"]


async def test_a_refusal_on_the_way_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A changed host key must not be hidden by a fallback that works."""
    engine = FakeEngine({DIRECT: (0, TunnelRefused("HOST KEY CHANGED")), RELAY: (0, None)})
    await dial(engine, TARGET)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_silent_direct_path_gets_a_head_start_and_then_company() -> None:
    engine = FakeEngine({RELAY: (0.5, None)})
    tunnel = await dial(engine, TARGET, head_start_s=3, prefer_direct_s=1)
    assert tunnel.address == RELAY
    assert engine.begun[RELAY] == pytest.approx(3)
    assert now() == pytest.approx(4.5)
    assert OTHER not in engine.begun
    assert engine.only_open() == RELAY


async def test_a_direct_path_that_is_merely_slow_is_preferred() -> None:
    """It answers 0.9 s after the relay did; the relay's tunnel is closed."""
    engine = FakeEngine({DIRECT: (4.4, None), RELAY: (0.5, None)})
    tunnel = await dial(engine, TARGET, head_start_s=3, prefer_direct_s=1)
    assert tunnel.address == DIRECT
    assert now() == pytest.approx(4.4)
    assert len(engine.tunnels) == 2
    assert engine.only_open() == DIRECT


async def test_a_direct_path_that_fails_while_preferred_costs_no_more_time() -> None:
    engine = FakeEngine({DIRECT: (3.6, TunnelLost("slow, then down")), RELAY: (0.5, None)})
    tunnel = await dial(engine, TARGET, head_start_s=3, prefer_direct_s=1)
    assert tunnel.address == RELAY
    assert now() == pytest.approx(3.6)


async def test_the_other_relay_port_comes_last() -> None:
    engine = FakeEngine({DIRECT: (0, TunnelLost("d")), RELAY: (0, TunnelLost("r")), OTHER: (0, None)})
    assert (await dial(engine, TARGET)).address == OTHER


async def test_when_all_fail_the_error_lists_each_address() -> None:
    engine = FakeEngine(
        {DIRECT: (9, TunnelLost("d")), RELAY: (1, TunnelRefused("r")), OTHER: (1, TunnelLost("o"))}
    )
    with pytest.raises(TunnelLost, match=r"^d; r; o$"):
        await dial(engine, TARGET)
    assert now() == pytest.approx(9)
    assert engine.only_open() is None


async def test_only_refusals_are_a_refusal() -> None:
    errors = {address: (0.0, TunnelRefused(f"no {port}")) for port, address in enumerate(TARGET.addresses)}
    with pytest.raises(TunnelRefused, match=r"^no 0; no 1; no 2$"):
        await dial(FakeEngine({**errors}), TARGET)


async def test_what_is_said_twice_is_told_once() -> None:
    """The second address of the relay says the same of our key as the first; the direct path's news is its own."""
    errors = {address: (0.0, KeyRefused(f"no key at {address}")) for address in TARGET.addresses}
    with pytest.raises(KeyRefused) as refused:
        await dial(FakeEngine({**errors}), TARGET)
    assert str(refused.value).count("no key at relay") == 1
    assert str(refused.value).count("no key at direct") == 1


async def test_a_changed_host_key_is_what_a_person_hears_of_first() -> None:
    changed = HostKeyRefused("HOST KEY CHANGED", path=Path.RELAY, presented="k")
    gone: tuple[float, Exception | None] = (0.0, TunnelLost("gone"))
    plan = {**dict.fromkeys(TARGET.addresses, gone), RELAY: (0.0, changed)}
    with pytest.raises(HostKeyRefused) as refused:
        await dial(FakeEngine(plan), TARGET)
    assert refused.value is changed


async def test_a_single_failure_is_raised_as_it_is() -> None:
    error: TunnelError = TunnelRefused("no")
    target = TunnelTarget(7, "7@1", (DIRECT, DIRECT))
    with pytest.raises(TunnelRefused) as raised:
        await dial(FakeEngine({DIRECT: (0, error)}), target)
    assert raised.value is error


async def test_an_instance_without_address_is_a_loss() -> None:
    with pytest.raises(TunnelLost, match="instance 7 has no SSH address"):
        await dial(FakeEngine({}), TunnelTarget(7, "7@1", ()))


@pytest.mark.parametrize("at_s", [0.0, 1.0, 3.0, 3.5, 3.6, 4.0, 4.5])
async def test_whenever_it_is_cancelled_nothing_stays_open(at_s: float) -> None:
    """During the head start, the race, the preference and at the very moment of success."""
    engine = FakeEngine({RELAY: (0.5, None)})
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dial(engine, TARGET, head_start_s=3, prefer_direct_s=1))
        await asyncio.sleep(at_s)
        cancelled = dialling.cancel()
    if cancelled and dialling.cancelled():
        assert engine.only_open() is None


@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_around_the_moment_of_success_leaks_no_tunnel(turns: int) -> None:
    engine = FakeEngine({DIRECT: (1.0, None)})
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dial(engine, TARGET))
        await asyncio.sleep(1.0)
        for _ in range(turns):
            await asyncio.sleep(0)
        dialling.cancel()
    expected = None if dialling.cancelled() else DIRECT
    assert engine.only_open() == expected


async def test_a_bug_in_the_engine_is_logged_and_ends_as_a_loss(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(dict.fromkeys(TARGET.addresses, (0.0, ZeroDivisionError())))
    with pytest.raises(TunnelLost, match="instance 7 could not be connected"):
        await dial(engine, TARGET)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.virtual_time
async def test_the_head_start_does_not_run_while_the_first_waits_for_its_turn() -> None:
    """Else everybody who waits in a crowd would add its other addresses to the crowd."""
    turns = asyncio.Event()
    engine = FakeEngine({DIRECT: (1.0, None), RELAY: (0.0, None)}, turns=turns)
    asyncio.get_running_loop().call_later(60, turns.set)
    tunnel = await dial(engine, TARGET, head_start_s=3)
    assert tunnel.address == DIRECT
    assert list(engine.begun) == [DIRECT]
