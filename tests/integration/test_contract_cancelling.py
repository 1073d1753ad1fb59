"""Opens that are given up, over both engines against OpenSSH's sshd: nothing stays open; see `Tunnel.open`."""

import asyncio

import pytest

from tests.helpers.contract import echoes
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, echo
from tests.helpers.uv import BOTH_LOOPS

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_a_cancelled_open_leaves_no_channel(sshd: Sshd, engine: str, turns: int) -> None:
    """Wherever the cancellation hits, the connection inside the instance is closed again."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(tunnel.open(factory, peer.port))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
        if not opening.cancelled():  # it was open already
            opening.result().stream.close()
        await echoes(tunnel, peer.port)
        await peer.all_closed.wait()
        for caller in made:
            await caller.lost.wait()
        assert tunnel.is_alive


@pytest.mark.parametrize("wait_ms", [1, 3, 6, 12, 25])
async def test_opens_cancelled_after_a_while_leave_no_channel(sshd: Sshd, engine: str, wait_ms: int) -> None:
    """Twenty at once, given up while threads and sockets are in the middle of them."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        await echoes(tunnel, peer.port)
        async with asyncio.TaskGroup() as group:
            opening = [group.create_task(tunnel.open(factory, peer.port)) for _ in range(20)]
            await asyncio.wait(opening, timeout=wait_ms / 1000)
            for task in opening:
                task.cancel()
        for task in opening:
            if not task.cancelled():
                task.result().stream.close()
        await echoes(tunnel, peer.port)
        for caller in made:
            await caller.lost.wait()
        await peer.all_closed.wait()


async def test_an_abandoned_stream_is_closed_when_it_opens_late(sshd: Sshd, engine: str) -> None:
    """Cancelled while sshd is frozen: the protocol is never made, and the channel ends once sshd goes on."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        sshd.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await tunnel.open(factory, peer.port)
        sshd.thaw()
        await echoes(tunnel, peer.port)
        await peer.all_closed.wait()
        assert not made
