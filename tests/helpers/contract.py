"""What the tests of the tunnels' contract share: each runs over both engines and, with `BOTH_LOOPS`, on both loops."""

import asyncio
from collections.abc import Awaitable

from tests.helpers.tunnelling import Recorder
from vastproxy.services.tunnels.base import Tunnel

MB = 1_000_000


async def outcome_of(work: Awaitable[object]) -> object:
    """What came of it: the result, or the exception."""
    try:
        return await work
    except Exception as exc:
        return exc


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing."""
    while await reader.read(65_536):
        pass


async def echoes(tunnel: Tunnel, port: int) -> None:
    """The tunnel carries a stream, now."""
    caller = await tunnel.open(Recorder, port)
    caller.stream.write(b"are you there?")
    await caller.has_received(14)
    caller.stream.close()
    await caller.lost.wait()
    assert (caller.tail, caller.lost_with) == (b"are you there?", None)
