"""Who does not read holds his sender back, over both engines against OpenSSH's sshd: memory is bounded both ways."""

import asyncio
from typing import Any

import pytest

from tests.helpers.contract import MB
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder
from tests.helpers.uv import BOTH_LOOPS

pytestmark = BOTH_LOOPS

#: What may be under way: the window of the channel, and the kernel's buffers of the peer's connection to sshd
#: (Linux: up to 4 MB to send and 6 MB received) and of ours.
MOST_UNDER_WAY = 16 * MB


class Flood:
    """A peer that sends as much as it can, and counts."""

    def __init__(self, *, total: int) -> None:
        self.sent = 0
        self._total = total

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.sent < self._total:
            writer.write(b"f" * 50_000)
            await writer.drain()
            self.sent += 50_000

    async def settled(self) -> int:
        """How much it has sent once that does not grow any more for a quarter of a second."""
        async with asyncio.timeout(20):
            before = -1
            while before != self.sent:
                before = self.sent
                await asyncio.sleep(0.25)
        return before


async def test_a_reader_who_pauses_is_sent_little_more_and_later_gets_all(sshd: Sshd, engine: str) -> None:
    """60 MB are to come; while nobody reads, the sender is held back, and nothing is lost or handed over."""
    flood = Flood(total=60 * MB)
    async with Peer().serve(flood) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.has_received(1 * MB)
        caller.stream.pause_reading()
        at_pause = caller.received
        assert await flood.settled() - at_pause < MOST_UNDER_WAY
        assert caller.received == at_pause
        caller.stream.resume_reading()
        await caller.has_received(60 * MB)
        await caller.eof.wait()
        assert caller.received == 60 * MB


async def test_who_writes_faster_than_the_other_side_reads_is_told_to_pause(sshd: Sshd, engine: str) -> None:
    """`pause_writing` comes before much is kept here, and `resume_writing` when the other side reads again."""
    reads = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reads.wait()
        while await reader.read(1 << 20):
            pass

    async with Peer().serve(late) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        written = 0
        with pytest.raises(TimeoutError):
            while True:
                async with asyncio.timeout(0.5):
                    await caller.writable.wait()
                caller.stream.write(b"w" * 50_000)
                written += 50_000
                assert written < MOST_UNDER_WAY, "nobody told us to pause"
                await asyncio.sleep(0)
        reads.set()
        async with asyncio.timeout(10):
            await caller.writable.wait()


@pytest.mark.parametrize("first_words", [b"", b"welcome"])
async def test_who_pauses_at_once_hears_nothing_until_he_reads(
    sshd: Sshd, engine: str, first_words: bytes
) -> None:
    """The other side speaks first, or ends at once; whoever paused in `connection_made` gets all of it in order.

    Without data before it the end of data may be told to somebody who does not read: there is nothing to hold.
    """

    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first_words)

    async with Peer().serve(hasty) as peer, tunnel_over(engine, sshd) as tunnel:
        for _ in range(10):
            caller = await tunnel.open(lambda: Pausing(keep_open=False), peer.port)
            await asyncio.sleep(0.02)
            assert caller.received == 0
            assert caller.events == ["made"] or not first_words
            caller.stream.resume_reading()
            await caller.lost.wait()
            assert (caller.tail, caller.events, caller.lost_with) == (
                first_words,
                ["made", "eof", "lost"],
                None,
            )
        await peer.all_closed.wait()
