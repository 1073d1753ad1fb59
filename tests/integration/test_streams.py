"""Streams over OpenSSH's sshd: what `Stream` promises, on real sockets, with our packets and with asyncssh's."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path as FilePath

import asyncssh
import pytest

from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import (
    Peer,
    Recorder,
    connected,
    direct,
    echo,
    engine_for,
    keys_of,
    target_for,
    unused_port,
)
from vastproxy.services.errors import ChannelRefused, TunnelLost
from vastproxy.services.tunnels import fastpath
from vastproxy.services.tunnels.asyncssh_engine import HOST_KEY_ALGORITHMS
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.tunnels.tunnel import AsyncsshTunnel, Ending

MB = 1_000_000


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=[True, False], ids=["fast", "stock"])
def fast(request: pytest.FixtureRequest) -> bool:
    """Around asyncssh, and through it."""
    return bool(request.param)


async def test_a_stream_carries_bytes_both_ways_until_both_ends_have_finished(sshd: Sshd, fast: bool) -> None:
    """Data, our half-close, the other half-close and the end come in TCP's order."""
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        assert caller.events == ["made"]
        caller.stream.write(b"hello")
        await caller.has_received(5)
        caller.stream.write_eof()
        await caller.eof.wait()
        caller.stream.close()
        await caller.lost.wait()
        assert (caller.tail, caller.events, caller.lost_with) == (b"hello", ["made", "eof", "lost"], None)
        assert tunnel.is_alive


async def test_we_may_send_after_the_other_side_has_finished(sshd: Sshd, fast: bool) -> None:
    """eof_received returning True keeps our half open."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def finish_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"response")
        writer.write_eof()
        got.set_result(await reader.read())

    async with Peer().serve(finish_first) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.eof.wait()
        assert caller.tail == b"response"
        assert not caller.stream.is_closing()
        caller.stream.write(b"late request")
        caller.stream.write_eof()
        assert await got == b"late request"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_stream_whose_protocol_does_not_stay_ends_with_the_other_side(sshd: Sshd, fast: bool) -> None:
    """eof_received returning False closes the stream, as asyncio does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async with Peer().serve(answer) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(lambda: Recorder(keep_open=False), peer.port)
        await caller.lost.wait()
        assert (caller.received, caller.events, caller.lost_with) == (100_000, ["made", "eof", "lost"], None)
        caller.stream.write(b"dropped, as TCP's transport does")
        caller.stream.write_eof()
        caller.stream.close()
        caller.stream.abort()


async def test_a_closed_port_is_refused_and_the_tunnel_lives_on(sshd: Sshd, fast: bool) -> None:
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        closed = await unused_port()
        with pytest.raises(
            ChannelRefused, match=rf"^instance 7 \(direct 127.0.0.1:{sshd.port}\) does not open port"
        ):
            await tunnel.open(Recorder, closed)
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"still here")
        await caller.has_received(10)


async def test_a_forbidden_port_is_refused_with_the_reason(tmp_path: FilePath, fast: bool) -> None:
    with Sshd(tmp_path / "sshd", config=["AllowTcpForwarding no"]) as server:
        async with connected(server, fast=fast) as tunnel:
            with pytest.raises(ChannelRefused, match="AllowTcpForwarding"):
                await tunnel.open(Recorder, 80)


async def test_fifty_megabytes_arrive_unchanged_in_both_directions(sshd: Sshd, fast: bool) -> None:
    block = bytes(range(256)) * 4096
    expected = hashlib.sha256()
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        for _ in range(50 * MB // len(block)):
            expected.update(block)
            await caller.writable.wait()
            caller.stream.write(block)
        caller.stream.write_eof()
        await caller.eof.wait()
        assert caller.digest.hexdigest() == expected.hexdigest()
        caller.stream.close()
        await caller.lost.wait()


async def test_data_survives_new_session_keys(tmp_path: FilePath, fast: bool) -> None:
    """sshd asks for new keys after each megabyte; nothing is lost or reordered."""
    block = bytes(range(251)) * 400
    expected = hashlib.sha256()
    with Sshd(tmp_path / "sshd", config=["RekeyLimit 1M"]) as server:
        async with Peer().serve(echo) as peer, connected(server, fast=fast) as tunnel:
            caller = await tunnel.open(Recorder, peer.port)
            for _ in range(80):
                expected.update(block)
                await caller.writable.wait()
                caller.stream.write(block)
            caller.stream.write_eof()
            await caller.eof.wait()
            assert caller.digest.hexdigest() == expected.hexdigest()


async def test_three_hundred_streams_at_once(sshd: Sshd, fast: bool) -> None:
    """Each of 300 streams on one connection gets its own bytes back, and all end."""
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
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


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
async def test_a_cancelled_open_leaves_no_channel(sshd: Sshd, fast: bool, turns: int) -> None:
    """Wherever the cancellation hits, the connection inside the instance is closed again."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(tunnel.open(factory, peer.port))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
        if not opening.cancelled():  # it was open already
            opening.result().stream.close()
        # What is opened afterwards comes after the abandoned one, in sshd's order.
        probe = await tunnel.open(Recorder, peer.port)
        probe.stream.close()
        await probe.lost.wait()
        await peer.all_closed.wait()
        for caller in made:
            await caller.lost.wait()
        assert tunnel.is_alive


async def test_an_abandoned_stream_is_closed_when_it_opens_late(sshd: Sshd, fast: bool) -> None:
    """Cancelled while sshd is frozen: the protocol is never made, and the channel ends once sshd goes on."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        sshd.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await tunnel.open(factory, peer.port)
        sshd.thaw()
        probe = await tunnel.open(Recorder, peer.port)
        probe.stream.close()
        await probe.lost.wait()
        await peer.all_closed.wait()
        assert not made


async def test_a_slow_reader_stops_only_its_own_stream(sshd: Sshd, fast: bool) -> None:
    """While one stream is paused its sender is held back and another one carries 5 MB; then it goes on."""
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
        connected(sshd, fast=fast) as tunnel,
    ):
        slow = await tunnel.open(Recorder, flooding.port)
        slow.stream.pause_reading()
        slow.stream.pause_reading()
        at_pause = slow.received
        quick = await tunnel.open(Recorder, echoing.port)
        for _ in range(50):
            await quick.writable.wait()
            quick.stream.write(b"q" * 100_000)
        await quick.has_received(5 * MB)
        assert slow.received == at_pause
        assert sent < 20 * MB, "nobody held the sender back"
        slow.stream.resume_reading()
        await slow.has_received(20 * MB)
        await slow.eof.wait()


async def test_pausing_inside_data_received_is_obeyed_and_never_reenters(sshd: Sshd, fast: bool) -> None:
    """A protocol that pauses and resumes for each piece gets them one after the other."""

    class Picky(Recorder):
        inside = False

        def data_received(self, data: bytes) -> None:
            assert not self.inside
            self.inside = True
            self.stream.pause_reading()
            super().data_received(data)
            self.stream.resume_reading()
            self.inside = False

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"p" * 2 * MB)

    async with Peer().serve(send) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(Picky, peer.port)
        await caller.has_received(2 * MB)
        await caller.eof.wait()


async def test_a_failing_protocol_ends_its_stream_and_not_the_tunnel(sshd: Sshd, fast: bool) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("parser bug")

    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(repr(context["exception"])))
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        healthy = await tunnel.open(Recorder, peer.port)
        failing = await tunnel.open(Failing, peer.port)
        failing.stream.write(b"boom")
        await failing.lost.wait()
        assert isinstance(failing.lost_with, RuntimeError)
        assert reported == ["RuntimeError('parser bug')"]
        healthy.stream.write(b"fine")
        await healthy.has_received(4)


async def test_an_exception_of_the_callers_factory_comes_back_and_closes_the_channel(
    sshd: Sshd, fast: bool
) -> None:
    def broken() -> Recorder:
        raise ZeroDivisionError

    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        with pytest.raises(ZeroDivisionError):
            await tunnel.open(broken, peer.port)
        await peer.all_closed.wait()
        assert tunnel.is_alive


async def test_abort_ends_a_stream_at_once_even_when_nobody_answers(sshd: Sshd, fast: bool) -> None:
    async with Peer().serve(echo) as peer, connected(sshd, fast=fast) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        caller.stream.abort()
        async with asyncio.timeout(10):
            await caller.lost.wait()
        sshd.thaw()
        await peer.all_closed.wait()
        assert caller.lost_with is None


async def talk(caller: Recorder, rng: random.Random, size: int) -> str:
    """Send `size` bytes in pieces of any size, pausing the other direction now and then. Returns their digest."""
    digest, left, paused = hashlib.sha256(), size, False
    while left:
        piece = rng.randbytes(min(left, rng.choice([1, 10, 300, 5_000, 32_768, 100_000])))
        left -= len(piece)
        digest.update(piece)
        await caller.writable.wait()
        caller.stream.write(piece)
        if rng.random() < 0.2:
            paused = not paused
            (caller.stream.pause_reading if paused else caller.stream.resume_reading)()
        if rng.random() < 0.3:
            await asyncio.sleep(0)
    caller.stream.resume_reading()
    caller.stream.write_eof()
    return digest.hexdigest()


async def converse(tunnel: AsyncsshTunnel, port: int, *, streams: int, size: int, seed: int) -> None:
    """So many echoed streams at once, each with its own bytes, sizes and pauses; every byte comes back."""

    async def one(number: int) -> None:
        caller = await tunnel.open(Recorder, port)
        sent = await talk(caller, random.Random(f"{seed} {number}"), size)
        await caller.eof.wait()
        assert caller.digest.hexdigest() == sent
        caller.stream.close()
        await caller.lost.wait()
        assert caller.lost_with is None

    await asyncio.gather(*(one(number) for number in range(streams)))


@pytest.mark.parametrize("window_bytes", [4096, 1 << 20])
async def test_many_streams_survive_pauses_and_new_keys(
    tmp_path: FilePath, fast: bool, window_bytes: int
) -> None:
    """Thirty streams, windows that run out, and a server that asks for new keys after each half megabyte."""
    with Sshd(tmp_path / "sshd", config=["RekeyLimit 512K"]) as server:
        async with (
            Peer().serve(echo) as peer,
            connected(server, fast=fast, window_bytes=window_bytes) as tunnel,
        ):
            await converse(tunnel, peer.port, streams=30, size=150_000, seed=1)


async def test_streams_survive_new_keys_that_we_ask_for(sshd: Sshd) -> None:
    """After each hundred kilobytes that we send, while data goes both ways."""
    engine = engine_for(sshd)
    async with keys_of(sshd.client_key_path).offer() as offer:
        usual = engine._options(offer.keys, HOST_KEY_ALGORITHMS)
    options = asyncssh.SSHClientConnectionOptions(usual, rekey_bytes=100_000)

    class Trusting(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            return True

    conn = await fastpath.connect("127.0.0.1", sshd.port, options, Trusting)
    tunnel = AsyncsshTunnel(
        conn, Ending(target_for(), direct(sshd.port)), target_for(), direct(sshd.port), window_bytes=1 << 20
    )
    async with Peer().serve(echo) as peer:
        await converse(tunnel, peer.port, streams=8, size=400_000, seed=2)
        await tunnel.close()


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "aes128-ctr", "chacha20-poly1305@openssh.com"])
async def test_a_server_with_other_ciphers_is_served_as_well(tmp_path: FilePath, cipher: str) -> None:
    """Where our own way does not fit, asyncssh's is taken, on the same streams."""
    with Sshd(tmp_path / "sshd", config=[f"Ciphers {cipher}", "RekeyLimit 512K"]) as server:
        async with Peer().serve(echo) as peer, connected(server, fast=True) as tunnel:
            assert tunnel.cipher == cipher
            await converse(tunnel, peer.port, streams=5, size=200_000, seed=3)


@contextlib.asynccontextmanager
async def between(
    port: int, change: Callable[[bytes, int], list[bytes]] = lambda data, at: [data]
) -> AsyncIterator[int]:
    """A relay to `port`: what comes from there is handed on as `change(data, bytes so far)` says, piece by piece."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
            at = 0
            while data := await source.read(65_536):
                for piece in change(data, at) if is_answer else [data]:
                    sink.write(piece)
                    await sink.drain()
                at += len(data)
            sink.write_eof()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, there_writer, False))
                group.create_task(copy(there_reader, writer, True))
        except* ConnectionError:
            pass
        finally:
            for end in (writer, there_writer):
                end.close()
                with contextlib.suppress(ConnectionError):
                    await end.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_packets_may_come_in_any_pieces(sshd: Sshd) -> None:
    """A network that cuts what sshd sends anywhere, down to single bytes."""
    rng = random.Random(4)

    def cut(data: bytes, at: int) -> list[bytes]:
        pieces = []
        while data:
            size = rng.choice([1, 3, 15, 16, 17, 100, 1460, 20_000])
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    async with (
        between(sshd.port, cut) as port,
        Peer().serve(echo) as peer,
        connected(sshd, port=port) as tunnel,
    ):
        await converse(tunnel, peer.port, streams=5, size=100_000, seed=5)


async def test_one_changed_bit_is_noticed_before_any_of_it_is_used(sshd: Sshd) -> None:
    """The connection is lost, and a stream has got nothing but what was sent."""
    spoil_after = 1 << 60

    def spoil(data: bytes, at: int) -> list[bytes]:
        if at + len(data) <= spoil_after:
            return [data]
        middle = len(data) // 2
        return [data[:middle] + bytes((data[middle] ^ 4,)) + data[middle + 1 :]]

    async with (
        between(sshd.port, spoil) as port,
        Peer().serve(echo) as peer,
        connected(sshd, port=port) as tunnel,
    ):
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"a" * 1000)
        await caller.has_received(1000)
        spoil_after = 0
        caller.stream.write(b"a" * 1000)
        error = await asyncio.shield(tunnel.lost)
        await caller.lost.wait()
        assert isinstance(error, TunnelLost)
        assert isinstance(caller.lost_with, TunnelLost)
        assert "MAC verification failed" in str(caller.lost_with)
        assert caller.received == 1000


@pytest.mark.parametrize("window_bytes", [65_536, 1 << 20])
async def test_a_paused_stream_holds_no_more_than_its_window(
    sshd: Sshd, fast: bool, window_bytes: int
) -> None:
    """Twenty paused streams of a fast sender: once sshd can send nothing more, each gives what it had held."""

    class Slow(Recorder):
        def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.pause_reading()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(400):
            writer.write(b"f" * 50_000)
            await writer.drain()

    async with (
        Peer().serve(flood) as flooding,
        Peer().serve(echo) as echoing,
        connected(sshd, fast=fast, window_bytes=window_bytes) as tunnel,
    ):
        slow = await asyncio.gather(*(tunnel.open(Slow, flooding.port) for _ in range(20)))
        quick = await tunnel.open(Recorder, echoing.port)
        for _ in range(30):  # comes back after whatever sshd could still send before it
            await quick.writable.wait()
            quick.stream.write(b"q" * 100_000)
        await quick.has_received(3 * MB)
        assert [caller.received for caller in slow] == [0] * 20
        await asyncio.to_thread(sshd.freeze)
        for caller in slow:
            caller.stream.resume_reading()
        async with asyncio.timeout(10):
            for caller in slow:
                await caller.has_received(window_bytes)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [caller.received for caller in slow] == [window_bytes] * 20
        await asyncio.to_thread(sshd.thaw)
        for caller in slow:
            caller.stream.abort()


async def test_a_full_line_holds_writers_back_and_serves_all_in_the_end(sshd: Sshd) -> None:
    """While sshd takes nothing, forty writers of a megabyte are paused and little is kept for the socket."""
    received: list[int] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = 0
        while data := await reader.read(65_536):
            got += len(data)
        received.append(got)

    async with Peer().serve(count) as peer, connected(sshd, fast=True) as tunnel:
        callers = await asyncio.gather(*(tunnel.open(Recorder, peer.port) for _ in range(40)))
        await asyncio.to_thread(sshd.freeze)
        left = dict.fromkeys(callers, 10)

        async def send(caller: Recorder) -> None:
            while left[caller]:
                await caller.writable.wait()
                caller.stream.write(b"u" * 100_000)
                left[caller] -= 1
            caller.stream.write_eof()

        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(send(caller))
            async with asyncio.timeout(10):  # all are paused once the system's buffers are full
                while any(caller.writable.is_set() for caller in callers if left[caller]):
                    await asyncio.sleep(0)
            assert sum(left.values()) > 100, "nobody held them back"
            await asyncio.to_thread(sshd.thaw)
        await peer.all_closed.wait()
        assert received == [MB] * 40


async def test_a_server_that_asks_for_signs_of_life_gets_them(tmp_path: FilePath, fast: bool) -> None:
    """ClientAliveInterval asks on any open channel, also on ours; unanswered, sshd would hang up after four seconds."""
    alive = ["ClientAliveInterval 1", "ClientAliveCountMax 3"]
    with Sshd(tmp_path / "sshd", config=alive) as server:
        async with (
            Peer().serve(echo) as peer,
            connected(server, fast=fast, keepalive_interval_s=60) as tunnel,
        ):
            caller = await tunnel.open(Recorder, peer.port)
            done, _ = await asyncio.wait([tunnel.lost], timeout=5.5)
            assert not done
            caller.stream.write(b"still here")
            await caller.has_received(10)


async def test_data_alone_keeps_a_connection_from_being_asked_for_signs_of_life(
    sshd: Sshd, fast: bool
) -> None:
    """A server that sends tokens is alive, even when it cannot answer keepalives because its line is full."""

    async def tokens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(120):
            writer.write(b"token")
            await asyncio.sleep(0.02)

    async with Peer().serve(tokens) as peer, connected(sshd, fast=fast, keepalive_interval_s=0.4) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.eof.wait()
        assert caller.received == 600
        assert tunnel.is_alive
