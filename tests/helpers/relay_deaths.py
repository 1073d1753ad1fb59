"""The ways in which an SSH connection over a road dies, and what tests do on one that lives."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.helpers.faulty_relay import FaultyRelay
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Recorder, unused_port
from vastproxy.services.errors import ChannelRefused
from vastproxy.services.tunnels.base import Tunnel

#: With these settings the loss of a silent connection is declared so late at the latest; a busy machine adds SLACK_S.
INTERVAL_S = 0.4
COUNT = 2
NOTICED_S = INTERVAL_S * (COUNT + 1)
SLACK_S = 2.0
#: More than an SSH window and all the buffers on the way hold.
MUCH = 24_000_000


@contextlib.asynccontextmanager
async def road_to(sshd: Sshd) -> AsyncIterator[FaultyRelay]:
    """A relay before `sshd`. In the end sshd is not frozen any more."""
    async with FaultyRelay(sshd.port) as relay:
        try:
            yield relay
        finally:
            sshd.thaw()


async def tick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that streams."""
    while True:
        writer.write(b"tick")
        await writer.drain()
        await asyncio.sleep(0.02)


async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that thinks."""
    while await reader.read(65_536):
        pass


async def outcome_of(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as exc:
        return exc


async def _kill_sessions(sshd: Sshd, relay: FaultyRelay) -> None:
    await asyncio.to_thread(sshd.kill_sessions)


async def _freeze_sshd(sshd: Sshd, relay: FaultyRelay) -> None:
    sshd.freeze()


def _on_the_road(fault: Callable[[FaultyRelay], None]) -> Callable[[Sshd, FaultyRelay], Awaitable[None]]:
    async def die(sshd: Sshd, relay: FaultyRelay) -> None:
        fault(relay)

    return die


#: Nobody says anything any more.
SILENT = {
    "sshd stopped": _freeze_sshd,
    "black hole": _on_the_road(lambda relay: relay.drop()),
    "black hole that takes everything": _on_the_road(lambda relay: relay.drop(swallow=True)),
    "frozen": _on_the_road(FaultyRelay.freeze),
}
DEATHS = {
    "reset": _on_the_road(FaultyRelay.reset),
    "end": _on_the_road(FaultyRelay.half_close),
    "session killed": _kill_sessions,
    "rebooted": _on_the_road(FaultyRelay.forget),
    "garbled": _on_the_road(FaultyRelay.garble),
    **SILENT,
}


async def exchange(tunnel: Tunnel, port: int, *, size: int) -> None:
    """Everything that a tunnel is for: a command, a stream that carries `size` bytes there and back, a closed port."""
    data = random.Random(size).randbytes(size)
    result = await tunnel.run("echo out; exit 3", timeout_s=30)
    assert (result.exit_status, result.stdout) == (3, "out\n")
    with pytest.raises(ChannelRefused):
        await tunnel.open(Recorder, await unused_port())
    caller = await tunnel.open(Recorder, port)
    caller.stream.write(data)
    await caller.has_received(size)
    assert caller.digest.digest() == hashlib.sha256(data).digest()
    caller.stream.write_eof()
    await caller.eof.wait()
    caller.stream.close()
    await caller.lost.wait()
    assert (caller.events, caller.lost_with, caller.received) == (["made", "eof", "lost"], None, size)
