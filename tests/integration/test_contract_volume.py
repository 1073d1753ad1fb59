"""Much data, many streams and slow readers, over both engines against OpenSSH's sshd."""

import asyncio
import hashlib
from pathlib import Path as FilePath

from tests.helpers.contract import MB
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, echo
from tests.helpers.uv import BOTH_LOOPS

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_twenty_megabytes_arrive_unchanged_in_both_directions(sshd: Sshd, engine: str) -> None:
    block = bytes(range(256)) * 2048
    expected = hashlib.sha256()
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        for _ in range(20 * MB // len(block)):
            expected.update(block)
            await caller.writable.wait()
            caller.stream.write(block)
        caller.stream.write_eof()
        await caller.eof.wait()
        assert caller.digest.hexdigest() == expected.hexdigest()
        caller.stream.close()
        await caller.lost.wait()


async def test_data_survives_new_session_keys(tmp_path: FilePath, engine: str) -> None:
    """sshd asks for new keys after each megabyte; nothing is lost or reordered."""
    block = bytes(range(251)) * 400
    expected = hashlib.sha256()
    with Sshd(tmp_path / "sshd", config=["RekeyLimit 1M"]) as server:
        async with Peer().serve(echo) as peer, tunnel_over(engine, server) as tunnel:
            caller = await tunnel.open(Recorder, peer.port)
            for _ in range(60):
                expected.update(block)
                await caller.writable.wait()
                caller.stream.write(block)
            caller.stream.write_eof()
            await caller.eof.wait()
            assert caller.digest.hexdigest() == expected.hexdigest()


async def test_three_hundred_streams_at_once(sshd: Sshd, engine: str) -> None:
    """Each of 300 streams on one connection gets its own bytes back, and all end."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        callers = await asyncio.gather(*(tunnel.open(Recorder, peer.port) for _ in range(300)))
        for number, caller in enumerate(callers):
            caller.stream.write(b"%05d" % number * 100)
        for number, caller in enumerate(callers):
            await caller.has_received(500)
            assert caller.tail.endswith(b"%05d" % number)
        assert peer.open_now == 300
        for caller in callers:
            caller.stream.close()
        await asyncio.gather(*(caller.lost.wait() for caller in callers))
        await peer.all_closed.wait()


async def test_a_slow_reader_stops_only_its_own_stream(sshd: Sshd, engine: str) -> None:
    """While one stream is paused its sender is held back and another one carries 2 MB; then it goes on."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 20 * MB:
            writer.write(b"f" * 50_000)
            await writer.drain()
            sent += 50_000

    async with (
        Peer().serve(flood) as flooding,
        Peer().serve(echo) as echoing,
        tunnel_over(engine, sshd) as tunnel,
    ):
        slow = await tunnel.open(Recorder, flooding.port)
        slow.stream.pause_reading()
        slow.stream.pause_reading()
        at_pause = slow.received
        quick = await tunnel.open(Recorder, echoing.port)
        for _ in range(20):
            await quick.writable.wait()
            quick.stream.write(b"q" * 100_000)
        await quick.has_received(2 * MB)
        assert slow.received == at_pause
        assert sent < 20 * MB, "nobody held the sender back"
        slow.stream.resume_reading()
        await slow.has_received(20 * MB)
        await slow.eof.wait()
