"""Bad roads to a real sshd: a login that stalls or is cut off, a garbled host key, 150 ms, single bytes, a pause."""

import asyncio
import hashlib
import math
import random
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from tests.helpers.faulty_relay import Side
from tests.helpers.relay_deaths import DEATHS, INTERVAL_S, SILENT, SLACK_S, exchange, outcome_of, road_to
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, connected, direct, echo, engine_for, target_for
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelError, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import HostKeyPins

pytestmark = BOTH_LOOPS

IDENTITY = "7@1700000000"
#: What precedes the 32 bytes of an ed25519 host key when a server presents it (RFC 8709 §4, RFC 5656 §4).
BEFORE_HOST_KEY = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=[True, False], ids=["fast", "stock"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Around asyncssh, and through it."""
    return bool(request.param)


# ── connecting ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("death", SILENT)
async def test_a_road_that_accepts_and_says_nothing_costs_the_connect_timeout(sshd: Sshd, death: str) -> None:
    loop = asyncio.get_running_loop()
    async with road_to(sshd) as relay:
        await DEATHS[death](sshd, relay)
        began, address = loop.time(), direct(relay.port)
        with pytest.raises(TunnelLost, match=r"did not complete an SSH login within 0.5 s"):
            await engine_for(sshd, connect_timeout_s=0.5).connect(target_for(address), address)
        assert 0.4 < loop.time() - began < 0.5 + SLACK_S


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.85])
async def test_a_login_that_stalls_anywhere_costs_the_connect_timeout(sshd: Sshd, share: float) -> None:
    """In the greeting, the key exchange, the login or the first command: after a share of what sshd says."""
    async with road_to(sshd) as relay:
        relay.split(64)
        address = direct(relay.port)
        began = asyncio.get_running_loop().time()
        await (await engine_for(sshd).connect(target_for(address), address)).close()
        # Far more than a login needs on this machine now, so that it gets as far as it is to.
        limit_s = max(1, math.ceil(10 * (asyncio.get_running_loop().time() - began)))
        whole = relay.forwarded[Side.CLIENT]
        async with asyncio.timeout(limit_s + 10), asyncio.TaskGroup() as group:
            connecting = group.create_task(
                outcome_of(engine_for(sshd, connect_timeout_s=limit_s).connect(target_for(address), address))
            )
            await relay.until(lambda: relay.forwarded[Side.CLIENT] > whole * (1 + share))
            relay.freeze()
        assert isinstance(connecting.result(), TunnelLost)
        assert f"did not complete an SSH login within {limit_s} s" in str(connecting.result())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.85])
async def test_a_login_that_is_cut_off_anywhere_is_a_loss(sshd: Sshd, share: float) -> None:
    async with road_to(sshd) as relay:
        address = direct(relay.port)
        await (await engine_for(sshd).connect(target_for(address), address)).close()
        relay.truncate(int(relay.forwarded[Side.CLIENT] * share))
        with pytest.raises(TunnelLost, match=rf"^instance 7 \(direct 127.0.0.1:{relay.port}\)"):
            await engine_for(sshd).connect(target_for(address), address)


async def test_a_garbled_host_key_is_neither_believed_nor_pinned(sshd: Sshd) -> None:
    """At first sight: it does not fit its signature. Once the road is healed, the real key is pinned."""
    pins = HostKeyPins(None)
    async with road_to(sshd) as relay:
        address = direct(relay.port)
        relay.garble(after=BEFORE_HOST_KEY)
        with pytest.raises(TunnelError):
            await engine_for(sshd, pins=pins).connect(target_for(address), address)
        assert pins.pinned(IDENTITY, Path.DIRECT) is None
        relay.heal()
        await (await engine_for(sshd, pins=pins).connect(target_for(address), address)).close()
        assert pins.pinned(IDENTITY, Path.DIRECT) == sshd.host_key


async def test_a_garbled_host_key_does_not_replace_the_pinned_one(sshd: Sshd) -> None:
    """It is refused before the login, and the pin stays."""
    pins = HostKeyPins(None)
    async with road_to(sshd) as relay:
        address = direct(relay.port)
        await (await engine_for(sshd, pins=pins).connect(target_for(address), address)).close()
        relay.garble(after=BEFORE_HOST_KEY)
        with pytest.raises(TunnelRefused, match="HOST KEY CHANGED"):
            await engine_for(sshd, pins=pins).connect(target_for(address), address)
        assert pins.pinned(IDENTITY, Path.DIRECT) == sshd.host_key
        relay.heal()
        await (await engine_for(sshd, pins=pins).connect(target_for(address), address)).close()


async def test_a_garbled_key_exchange_is_called_what_it_is(sshd: Sshd) -> None:
    """Algorithms were agreed on, so a person should not be sent to look for them."""
    async with road_to(sshd) as relay:
        address = direct(relay.port)
        relay.garble(after=BEFORE_HOST_KEY)
        with pytest.raises(TunnelLost, match="the key exchange was changed on its way"):
            await engine_for(sshd).connect(target_for(address), address)


# ── roads that are only bad ────────────────────────────────────────────────────────────────────────


async def test_a_delay_of_150_ms_changes_nothing_but_the_time(sshd: Sshd, fast: bool) -> None:
    loop = asyncio.get_running_loop()
    async with Peer().serve(echo) as peer, road_to(sshd) as relay:
        relay.delay(0.15)
        async with connected(sshd, port=relay.port, fast=fast) as tunnel:
            began = loop.time()
            await exchange(tunnel, peer.port, size=1_000_000)
            assert loop.time() - began > 4 * 0.3, "a command, two openings and an echo are four round trips"
            assert tunnel.is_alive


async def test_split_into_single_bytes_changes_nothing_but_the_time(sshd: Sshd, fast: bool) -> None:
    async with Peer().serve(echo) as peer, road_to(sshd) as relay:
        relay.split(1)
        async with connected(sshd, port=relay.port, fast=fast) as tunnel:
            await exchange(tunnel, peer.port, size=8_000)
            assert tunnel.is_alive


async def test_a_freeze_shorter_than_the_keepalives_allow_is_survived(sshd: Sshd, fast: bool) -> None:
    """Everything stands still for one interval and goes on: nothing is lost, and the tunnel lives."""
    data = random.Random(7).randbytes(4_000_000)
    async with (
        Peer().serve(echo) as peer,
        road_to(sshd) as relay,
        connected(
            sshd, port=relay.port, fast=fast, keepalive_interval_s=INTERVAL_S, keepalive_count=10
        ) as tunnel,
    ):
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(data)
        await caller.has_received(1)
        relay.freeze()
        await asyncio.sleep(INTERVAL_S)
        relay.thaw()
        async with asyncio.timeout(20):
            await caller.has_received(len(data))
        assert caller.digest.digest() == hashlib.sha256(data).digest()
        assert tunnel.is_alive
        caller.stream.close()
