"""The relay that tests put between two peers does what it says: each fault, on real sockets, on both event loops."""

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.faulty_relay import FaultyRelay, Side
from tests.helpers.tunnelling import Peer, echo, unused_port
from tests.helpers.uv import BOTH_LOOPS

pytestmark = BOTH_LOOPS

#: More than all the buffers between two peers hold.
MUCH = 24_000_000
#: How long a test listens before it believes in silence.
SILENCE_S = 0.1


class Caller:
    """A client's connection. What is asked of it ends within 10 s."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def drained(self) -> None:
        """All that was written has left for the kernel."""
        self.writer.transport.set_write_buffer_limits(high=0)
        async with asyncio.timeout(10):
            await self.writer.drain()

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """Everything until the end."""
        async with asyncio.timeout(10):
            return await self._reader.read()

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                heard = await self._reader.read(1)
                pytest.fail(f"heard {heard!r}")

    async def is_reset(self) -> None:
        with pytest.raises(ConnectionResetError):
            await self.rest()


@contextlib.asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    caller = Caller(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield caller
    finally:
        caller.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await caller.writer.wait_closed()


@contextlib.asynccontextmanager
async def relayed() -> AsyncIterator[tuple[FaultyRelay, Peer]]:
    """A relay to an engine that sends back what comes."""
    async with Peer().serve(echo) as peer, FaultyRelay(peer.port) as relay:
        yield relay, peer


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def test_everything_passes_and_is_counted() -> None:
    """Two megabytes there and back, half-close included; then nothing is open any more."""
    data = some_bytes(2_000_000)
    async with relayed() as (relay, peer), calling(relay.port) as caller:
        caller.write(data)
        caller.writer.write_eof()
        back = await caller.rest()
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
        caller.writer.close()
        await relay.until(lambda: not relay.open_now)
        assert (relay.connections, peer.connections) == (1, 1)
        assert relay.forwarded == {Side.CLIENT: len(data), Side.SERVER: len(data)}


async def test_a_delay_is_for_each_way_and_limits_no_bandwidth() -> None:
    """A byte needs twice the delay; so do, nearly, two megabytes, which are some sixty readings each way."""
    loop, data = asyncio.get_running_loop(), some_bytes(2_000_000)
    async with relayed() as (relay, _), calling(relay.port) as caller:
        relay.delay(0.15)
        began = loop.time()
        caller.write(b"x")
        assert await caller.exactly(1) == b"x"
        assert 0.299 <= loop.time() - began < 5  # uvloop counts in whole milliseconds
        began = loop.time()
        caller.write(data)
        assert await caller.exactly(len(data)) == data
        assert 0.299 <= loop.time() - began < 9, "sixty readings one after the other would need 18 s"
        relay.heal()
        healed_s = []
        for _ in range(10):
            began = loop.time()
            caller.write(b"y")
            assert await caller.exactly(1) == b"y"
            healed_s.append(loop.time() - began)
        assert min(healed_s) < 0.15


async def test_split_writes_pieces_of_that_size() -> None:
    pieces: list[int] = []
    all_there = asyncio.Event()

    class Sizes(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            pieces.append(len(data))
            if sum(pieces) == 300:
                all_there.set()

    async with relayed() as (relay, _):
        relay.split(1)
        transport, _protocol = await asyncio.get_running_loop().create_connection(
            Sizes, "127.0.0.1", relay.port
        )
        transport.write(some_bytes(300))
        async with asyncio.timeout(10):
            await all_there.wait()
        transport.close()
        await relay.until(lambda: not relay.open_now)
    assert len(pieces) > 200, "a reader in the same process sees nearly every piece by itself"


async def test_a_frozen_relay_reads_nothing_and_loses_nothing() -> None:
    """The sender is held up; after the thaw all arrives, and who connected meanwhile is served."""
    data = some_bytes(MUCH)
    async with relayed() as (relay, peer), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.freeze()
        caller.write(data)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await caller.writer.drain()
        async with calling(relay.port) as late:
            late.write(b"late")
            await late.hears_nothing()
            assert relay.forwarded[Side.SERVER] == 1
            relay.thaw()
            assert await late.exactly(4) == b"late"
            assert await caller.exactly(len(data)) == data
        assert peer.connections == 2


@pytest.mark.parametrize("swallow", [False, True])
async def test_in_a_black_hole_nothing_arrives_and_nothing_ends(swallow: bool) -> None:
    """Old connections and new ones are open and silent; who ends one is not heard on the other side."""
    async with relayed() as (relay, peer), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.drop(swallow=swallow)
        caller.write(b"y")
        await caller.hears_nothing()
        async with calling(relay.port) as late:
            late.write(b"z")
            await late.hears_nothing()
            assert (relay.connections, peer.connections, peer.open_now) == (2, 1, 1)
        caller.writer.transport.abort()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await peer.all_closed.wait()
        assert relay.forwarded == {Side.CLIENT: 1, Side.SERVER: 1}
        relay.heal()
        async with calling(relay.port) as after:
            after.write(b"again")
            assert await after.exactly(5) == b"again"


async def test_one_direction_may_vanish_alone() -> None:
    """What the client sends is taken and does not arrive, on old and new connections; what comes to it does."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        while data := await reader.read(65_536):
            heard.append(data)
            writer.write(data)

    heard: list[bytes] = []
    async with Peer().serve(greet) as peer, FaultyRelay(peer.port) as relay, calling(relay.port) as caller:
        caller.write(b"x")
        assert await caller.exactly(6) == b"hellox"
        relay.swallow(Side.SERVER)
        caller.write(b"y")
        await caller.hears_nothing()
        async with calling(relay.port) as late:
            assert await late.exactly(5) == b"hello"
            late.write(b"z")
            await late.hears_nothing()
        assert heard == [b"x"]
        relay.heal()
        await caller.is_reset()


async def test_a_slow_line_pauses_after_each_piece() -> None:
    loop = asyncio.get_running_loop()
    async with relayed() as (relay, _), calling(relay.port) as caller:
        relay.split(1, pause_s=0.05)
        began = loop.time()
        caller.write(b"slow")
        assert await caller.exactly(4) == b"slow"
        assert loop.time() - began > 0.149  # uvloop counts in whole milliseconds
        relay.heal()
        caller.write(bytes(1000))
        await caller.exactly(1000)


async def test_a_sender_notices_a_black_hole_only_where_nothing_is_read() -> None:
    async with relayed() as (relay, _), calling(relay.port) as caller:
        relay.drop()
        caller.write(bytes(MUCH))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_S):
                await caller.writer.drain()
    async with relayed() as (relay, _), calling(relay.port) as caller:
        relay.drop(swallow=True)
        caller.write(bytes(MUCH))
        await caller.drained()


async def test_healing_resets_what_has_lost_something() -> None:
    async with relayed() as (relay, peer), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.drop()
        relay.heal()
        await caller.is_reset()
        async with asyncio.timeout(10):
            await peer.all_closed.wait()


async def test_a_reset_is_heard_by_both_sides() -> None:
    heard: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        try:
            await reader.read()
        except ConnectionResetError as error:
            heard.set_result(error)
        else:
            heard.set_result(None)

    async with Peer().serve(note) as peer, FaultyRelay(peer.port) as relay, calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.reset()
        await caller.is_reset()
        async with asyncio.timeout(10):
            assert isinstance(await heard, ConnectionResetError)
            await relay.until(lambda: not relay.open_now)


async def test_refusing_leaves_what_exists_and_can_be_undone_on_the_same_port() -> None:
    async with relayed() as (relay, _), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        for _ in range(3):
            relay.refuse()
            relay.refuse()
            with pytest.raises(ConnectionRefusedError):
                async with calling(relay.port):
                    pytest.fail("accepted")
            caller.write(b"still here")
            assert await caller.exactly(10) == b"still here"
            relay.accept()
            relay.accept()
            async with calling(relay.port) as other:
                other.write(b"back")
                assert await other.exactly(4) == b"back"


@pytest.mark.parametrize("count", [0, 1, 70_000])
async def test_a_truncated_answer_ends_after_exactly_so_many_bytes(count: int) -> None:
    """The other way stays open."""
    data = some_bytes(200_000)
    async with relayed() as (relay, _):
        relay.truncate(count)
        async with calling(relay.port) as caller:
            caller.write(data)
            assert await caller.rest() == data[:count]
            async with asyncio.timeout(10):
                await relay.until(lambda: relay.forwarded[Side.SERVER] == len(data))
            assert relay.forwarded[Side.CLIENT] == count


async def test_one_bit_is_garbled() -> None:
    async with relayed() as (relay, _), calling(relay.port) as caller:
        relay.garble()
        caller.write(b"AAAA")
        assert await caller.exactly(4) == b"@AAA"
        caller.write(b"AAAA")
        assert await caller.exactly(4) == b"AAAA"
        relay.garble(to=Side.SERVER)
        caller.write(b"AAAA")
        assert await caller.exactly(4) == b"@AAA"


async def test_the_byte_after_a_mark_is_garbled_wherever_it_comes() -> None:
    """The mark may come in parts, and the byte after it later."""
    async with relayed() as (relay, _):
        relay.garble(after=b"mark")
        for parts in (["..mark", "A."], ["..m", "ark", "A."], ["..markA."], ["mamarkA."]):
            async with calling(relay.port) as caller:
                back = b""
                for part in parts:
                    caller.write(part.encode())
                    back += await caller.exactly(len(part))
                assert back == "".join(parts).replace("A", "@").encode()


async def test_a_half_closed_side_hears_the_end_and_may_go_on() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        got.set_result(await reader.readexactly(4))
        writer.write(b"nobody hears this")
        await reader.read()

    async with Peer().serve(note) as peer, FaultyRelay(peer.port) as relay, calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.half_close()
        assert await caller.rest() == b""
        caller.write(b"late")
        async with asyncio.timeout(10):
            assert await got == b"late"


async def test_the_servers_side_can_be_half_closed() -> None:
    async with relayed() as (relay, _), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.half_close(Side.SERVER)
        assert await caller.rest() == b"", "the engine answers an end with an end"


async def test_a_host_that_forgot_us_answers_with_a_reset_and_only_then() -> None:
    async with relayed() as (relay, _), calling(relay.port) as caller:
        caller.write(b"x")
        await caller.exactly(1)
        relay.forget()
        await caller.hears_nothing()
        caller.write(b"y")
        await caller.is_reset()
        async with calling(relay.port) as other:
            other.write(b"new")
            assert await other.exactly(3) == b"new"


async def test_how_one_side_ends_is_how_the_other_hears_it() -> None:
    """A reset as a reset."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        sock: Any = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with (
        Peer().serve(break_off) as peer,
        FaultyRelay(peer.port) as relay,
        calling(relay.port) as caller,
    ):
        caller.write(b"x")
        await caller.is_reset()


async def test_where_nobody_listens_behind_clients_are_reset() -> None:
    async with FaultyRelay(await unused_port()) as relay, calling(relay.port) as caller:
        await caller.is_reset()


@pytest.mark.parametrize("fault", ["none", "freeze", "drop", "swallow", "delay", "refuse", "reset"])
async def test_closing_ends_everything_whatever_is_the_matter(fault: str) -> None:
    """No connection, task or descriptor is left; every test's guard looks for them."""
    async with Peer().serve(echo) as peer:
        relay = FaultyRelay(peer.port).start()
        async with calling(relay.port) as caller:
            caller.write(b"x")
            await caller.exactly(1)
            match fault:
                case "swallow":
                    relay.drop(swallow=True)
                case "delay":
                    relay.delay(60)
                case "none":
                    pass
                case _:
                    getattr(relay, fault)()
            caller.write(some_bytes(1_000_000))
            async with asyncio.timeout(5):
                await relay.aclose()
                await relay.aclose()
            assert not relay.open_now
            with contextlib.suppress(ConnectionResetError):
                await caller.rest()
        with pytest.raises(ConnectionRefusedError):
            async with calling(relay.port):
                pytest.fail("accepted")
