"""How tunnels end, over both engines against OpenSSH's sshd; see `Tunnel.lost` and `Tunnel.close`."""

import asyncio
from typing import Any

import pytest

from tests.helpers.contract import echoes, outcome_of, silent
from tests.helpers.processes import wait_until
from tests.helpers.ssh_engines import engine_named, tunnel_of, tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, direct, echo
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.hostkeys import HostKeyPins

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_closing_ends_everything_and_may_be_repeated(sshd: Sshd, engine: str) -> None:
    """`lost` is None for a close of ours; streams in use hear TunnelLost, not a clean end, also paused ones."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        callers = [await tunnel.open(Recorder, peer.port) for _ in range(5)]
        callers[0].stream.pause_reading()
        callers[1].stream.write(b"x" * 1000)
        await callers[1].has_received(1000)
        await asyncio.gather(tunnel.close(), tunnel.close())
        assert await tunnel.lost is None
        assert not tunnel.is_alive
        await tunnel.close()
        for caller in callers:
            assert isinstance(caller.lost_with, TunnelLost)
            assert "closed by vastproxy" in str(caller.lost_with)
            assert caller.events == ["made", "lost"]
        with pytest.raises(TunnelLost, match="closed by vastproxy"):
            await tunnel.open(Recorder, peer.port)
        with pytest.raises(TunnelLost, match="closed by vastproxy"):
            await tunnel.run("true", timeout_s=1)


async def test_closing_is_bounded_while_nobody_answers(sshd: Sshd, engine: str) -> None:
    """Frozen host, a full line, a stream under way: `close` takes a moment."""
    async with Peer().serve(silent) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        for _ in range(50):
            caller.stream.write(b"x" * 100_000)
        async with asyncio.TaskGroup() as group, asyncio.timeout(20):
            opening = group.create_task(outcome_of(tunnel.open(Recorder, 9)))
            command = group.create_task(outcome_of(tunnel.run("true", timeout_s=60)))
            await asyncio.sleep(0)
            await tunnel.close()
        assert isinstance(caller.lost_with, TunnelLost)
        assert isinstance(opening.result(), TunnelLost)
        assert isinstance(command.result(), TunnelLost)
        sshd.thaw()


async def test_a_killed_session_is_reported_to_everybody(sshd: Sshd, engine: str) -> None:
    """kill -9: `lost` is done, streams end with TunnelLost, a command fails, and nothing more is opened."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        callers = [await tunnel.open(Recorder, peer.port) for _ in range(10)]
        callers[0].stream.pause_reading()
        async with asyncio.TaskGroup() as group:
            command = group.create_task(outcome_of(tunnel.run("sleep 1000", timeout_s=60)))
            await asyncio.to_thread(
                wait_until, lambda: len(sshd.children()) > 2, limit_s=5, what="sleep runs"
            )
            await asyncio.to_thread(sshd.kill_sessions)
            error = await asyncio.shield(tunnel.lost)
        assert isinstance(error, TunnelLost)
        assert str(error).startswith(f"instance 7 (direct 127.0.0.1:{sshd.port}) lost its SSH connection: ")
        assert not tunnel.is_alive
        for caller in callers:
            await caller.lost.wait()
            assert isinstance(caller.lost_with, TunnelLost)
            assert "eof" not in caller.events
        assert isinstance(command.result(), TunnelLost)
        with pytest.raises(TunnelLost):
            await tunnel.open(Recorder, peer.port)
        with pytest.raises(TunnelLost):
            await tunnel.run("true", timeout_s=1)


async def test_an_answer_under_way_never_looks_whole_when_the_connection_dies(
    sshd: Sshd, engine: str
) -> None:
    """Killed in the middle of a download: no stream sees an end of data."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"t" * 10_000)
            await writer.drain()

    async with Peer().serve(endless) as peer, tunnel_over(engine, sshd) as tunnel:
        callers = [await tunnel.open(Recorder, peer.port) for _ in range(8)]
        await asyncio.gather(*(caller.has_received(200_000) for caller in callers))
        await asyncio.to_thread(sshd.kill_sessions)
        await asyncio.gather(*(caller.lost.wait() for caller in callers))
        assert {type(caller.lost_with) for caller in callers} == {TunnelLost}
        assert not any(caller.eof.is_set() for caller in callers)


async def test_an_open_under_way_fails_when_the_connection_dies(sshd: Sshd, engine: str) -> None:
    async with tunnel_over(engine, sshd) as tunnel:
        sshd.freeze()
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(outcome_of(tunnel.open(Recorder, 9)))
            command = group.create_task(outcome_of(tunnel.run("true", timeout_s=60)))
            await asyncio.sleep(0)
            await asyncio.to_thread(sshd.kill_sessions)
        assert isinstance(opening.result(), TunnelLost)
        assert isinstance(command.result(), TunnelLost)
        sshd.thaw()


async def test_a_frozen_host_is_given_up_after_the_keepalives(sshd: Sshd, engine: str) -> None:
    """With 0.5 s and 2 keepalives the loss is declared after 1.5 s."""
    loop = asyncio.get_running_loop()
    keepalive: dict[str, Any] = {"keepalive_interval_s": 0.5, "keepalive_count": 2}
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd, **keepalive) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        frozen_at = loop.time()
        async with asyncio.timeout(20):
            error = await asyncio.shield(tunnel.lost)
        assert 0.5 < loop.time() - frozen_at < 10
        assert isinstance(error, TunnelLost)
        assert "keepalive" in str(error)
        await caller.lost.wait()
        assert isinstance(caller.lost_with, TunnelLost)
        sshd.thaw()


async def test_an_idle_tunnel_stays_alive(sshd: Sshd, engine: str) -> None:
    """Ten keepalive intervals without any traffic are no loss."""
    async with tunnel_over(engine, sshd, keepalive_interval_s=0.2, keepalive_count=8) as tunnel:
        done, _ = await asyncio.wait([tunnel.lost], timeout=2.0)
        assert not done
        assert tunnel.is_alive


async def test_an_engine_connects_again_after_a_loss(sshd: Sshd, engine: str) -> None:
    """Five times killed, five times back, with the same engine and the same pin."""
    pins, address = HostKeyPins(None), direct(sshd.port)
    ours = engine_named(engine, sshd, pins=pins)
    async with Peer().serve(echo) as peer:
        for _ in range(5):
            async with tunnel_of(ours, address) as tunnel:
                await echoes(tunnel, peer.port)
                await asyncio.to_thread(sshd.kill_sessions)
                assert isinstance(await asyncio.shield(tunnel.lost), TunnelLost)
