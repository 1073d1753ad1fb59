"""Every way in which an SSH connection dies: noticed in time, told to everybody once, and nothing is sent into it.

The road between the engine and a real sshd is a relay that misbehaves. Intervals are short here; with the default of
5 s and two keepalives the same bounds are 15 s.
"""

import asyncio
import functools
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from tests.helpers.relay_deaths import (
    COUNT,
    DEATHS,
    INTERVAL_S,
    MUCH,
    NOTICED_S,
    SILENT,
    SLACK_S,
    exchange,
    listen,
    outcome_of,
    road_to,
    tick,
)
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, connected, direct, echo, engine_for, target_for
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.tunnel import CLOSE_LIMIT_S

pytestmark = BOTH_LOOPS

short_keepalive = functools.partial(connected, keepalive_interval_s=INTERVAL_S, keepalive_count=COUNT)


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=[True, False], ids=["fast", "stock"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Around asyncssh, and through it."""
    return bool(request.param)


@pytest.mark.parametrize("death", DEATHS)
async def test_a_death_is_noticed_in_time_and_everybody_hears_of_it_once(
    sshd: Sshd, death: str, fast: bool
) -> None:
    """`lost` is done, streams that talk and streams that wait end with TunnelLost, and so do an `open` and a command
    that were asked for when the connection was dead and nobody knew."""
    loop = asyncio.get_running_loop()
    async with (
        Peer().serve(tick) as talker,
        Peer().serve(listen) as thinker,
        road_to(sshd) as relay,
        short_keepalive(sshd, port=relay.port, fast=fast) as tunnel,
    ):
        streams = [await tunnel.open(Recorder, peer.port) for peer in (talker, talker, thinker, thinker)]
        await streams[0].has_received(1)
        died_at = loop.time()
        await DEATHS[death](sshd, relay)
        async with asyncio.timeout(NOTICED_S + SLACK_S), asyncio.TaskGroup() as group:
            opening = group.create_task(outcome_of(tunnel.open(Recorder, thinker.port)))
            command = group.create_task(outcome_of(tunnel.run("sleep 1000", timeout_s=60)))
            error = await asyncio.shield(tunnel.lost)
            assert not tunnel.is_alive
            for stream in streams:
                await stream.lost.wait()
        assert loop.time() - died_at < NOTICED_S + SLACK_S
        assert isinstance(error, TunnelLost)
        assert str(error).startswith(f"instance 7 (direct 127.0.0.1:{relay.port})")
        for stream in streams:
            assert isinstance(stream.lost_with, TunnelLost)
            assert stream.events == ["made", "lost"]
        assert isinstance(opening.result(), TunnelLost)
        assert isinstance(command.result(), TunnelLost)


@pytest.mark.parametrize("death", DEATHS)
async def test_nothing_is_begun_after_the_first_sign(sshd: Sshd, death: str) -> None:
    """From the very turn of the loop in which the tunnel is not alive any more: an error at once, without a pause in
    which anything could be sent or waited for."""
    async with (
        Peer().serve(tick) as peer,
        road_to(sshd) as relay,
        short_keepalive(sshd, port=relay.port) as tunnel,
    ):
        stream = await tunnel.open(Recorder, peer.port)
        await stream.has_received(1)
        await DEATHS[death](sshd, relay)
        async with asyncio.timeout(NOTICED_S + SLACK_S):
            while tunnel.is_alive:
                await asyncio.sleep(0)
        for work in (tunnel.open(Recorder, peer.port), tunnel.run("true", timeout_s=60)):
            with pytest.raises(TunnelLost):
                work.send(None)
        stream.stream.write(b"to nobody")
        await stream.lost.wait()
        assert isinstance(stream.lost_with, TunnelLost)
        assert peer.connections == 1


@pytest.mark.parametrize("death", SILENT)
async def test_closing_does_not_wait_for_the_dead(sshd: Sshd, death: str, fast: bool) -> None:
    """Not even with megabytes that were written and not taken, and with an `open` and a command under way."""
    loop = asyncio.get_running_loop()
    async with (
        Peer().serve(listen) as peer,
        road_to(sshd) as relay,
        connected(sshd, port=relay.port, fast=fast) as tunnel,
    ):
        stream = await tunnel.open(Recorder, peer.port)
        await DEATHS[death](sshd, relay)
        stream.stream.write(bytes(MUCH))
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(outcome_of(tunnel.open(Recorder, peer.port)))
            command = group.create_task(outcome_of(tunnel.run("sleep 1000", timeout_s=60)))
            await asyncio.sleep(0)
            began = loop.time()
            await tunnel.close()
        assert loop.time() - began < CLOSE_LIMIT_S + SLACK_S
        assert not tunnel.is_alive
        async with asyncio.timeout(SLACK_S):
            assert await asyncio.shield(tunnel.lost) is None
            await stream.lost.wait()
        assert isinstance(stream.lost_with, TunnelLost)
        assert stream.events.count("lost") == 1
        assert [type(one.result()) for one in (opening, command)] == [TunnelLost, TunnelLost]


@pytest.mark.parametrize("death", ["reset", "session killed", "frozen"])
async def test_a_new_tunnel_can_be_made_over_the_healed_road(sshd: Sshd, death: str) -> None:
    """Death and return, five times: each time the same engine connects and everything works."""
    async with Peer().serve(echo) as peer, road_to(sshd) as relay:
        engine = engine_for(sshd, keepalive_interval_s=INTERVAL_S, keepalive_count=COUNT)
        address = direct(relay.port)
        for _ in range(5):
            tunnel = await engine.connect(target_for(address), address)
            await exchange(tunnel, peer.port, size=1_000)
            await DEATHS[death](sshd, relay)
            async with asyncio.timeout(NOTICED_S + SLACK_S):
                assert isinstance(await asyncio.shield(tunnel.lost), TunnelLost)
            await tunnel.close()
            relay.heal()
