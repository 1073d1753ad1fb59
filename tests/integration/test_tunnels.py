"""The asyncssh engine against OpenSSH's sshd: what `Tunnel` and `TunnelEngine` promise, on real sockets."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path as FilePath

import pytest

from tests.helpers.processes import is_running, wait_until
from tests.helpers.sshd import Sshd, make_key
from vastproxy.services.errors import ChannelRefused, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import Path, SshAddress, Stream, TunnelTarget
from vastproxy.services.tunnels.dial import dial
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.services.tunnels.tunnel import AsyncsshTunnel
from vastproxy.settings.model import TunnelSettings

FIXTURES = FilePath(__file__).parent.parent / "fixtures"
MB = 1_000_000


class Recorder(asyncio.Protocol):
    """The caller's end of a stream: keeps what happens and lets tests wait for it."""

    def __init__(self, *, keep_open: bool = True) -> None:
        self.keep_open = keep_open
        self.received = 0
        self.digest = hashlib.sha256()
        self.tail = b""
        self.events: list[str] = []
        self.lost_with: Exception | None = None
        self.stream: Stream
        self.eof = asyncio.Event()
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._changed = asyncio.Event()

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        self.stream = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.digest.update(data)
        self.tail = (self.tail + data)[-64:]
        self._changed.set()

    def eof_received(self) -> bool:
        self.events.append("eof")
        self.eof.set()
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost_with = exc
        self.lost.set()
        self._changed.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def has_received(self, count: int) -> None:
        while self.received < count:
            assert not self.lost.is_set(), f"ended after {self.received} of {count} bytes: {self.lost_with!r}"
            self._changed.clear()
            await self._changed.wait()


class Peer:
    """A TCP server that an instance's engine would be: each connection is handed to `handler`."""

    def __init__(self) -> None:
        self.connections = 0
        self.open_now = 0
        self.all_closed = asyncio.Event()
        self.port = 0

    @contextlib.asynccontextmanager
    async def serve(
        self, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> AsyncIterator["Peer"]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self.open_now += 1
            self.all_closed.clear()
            try:
                with contextlib.suppress(ConnectionError):
                    await handler(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                self.open_now -= 1
                if not self.open_now:
                    self.all_closed.set()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()
            if self.open_now:
                async with asyncio.timeout(10):
                    await self.all_closed.wait()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the other side has ended its half."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    await reader.read()


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    banner = (FIXTURES / "ssh_banner.txt").read_text()
    with Sshd(tmp_path / "sshd", path_dirs=[tmp_path / "bin"], banner=banner) as server:
        yield server


def keys_of(path: FilePath) -> ClientKeys:
    return load_client_keys(TunnelSettings(key_path=str(path)), home=None)


def engine_for(sshd: Sshd, *, pins: HostKeyPins | None = None, **overrides: float) -> AsyncsshEngine:
    settings = TunnelSettings.model_validate(overrides)
    keys = keys_of(sshd.client_key_path)
    return AsyncsshEngine(settings, keys=keys, pins=pins or HostKeyPins(None), username=sshd.username)


def target_for(*addresses: SshAddress, instance_id: int = 7) -> TunnelTarget:
    return TunnelTarget(instance_id, f"{instance_id}@1700000000", addresses)


def direct(port: int) -> SshAddress:
    return SshAddress("127.0.0.1", port, Path.DIRECT)


def relay(port: int) -> SshAddress:
    return SshAddress("127.0.0.1", port, Path.RELAY)


@contextlib.asynccontextmanager
async def connected(sshd: Sshd, **overrides: float) -> AsyncIterator[AsyncsshTunnel]:
    address = direct(sshd.port)
    tunnel = await engine_for(sshd, pins=None, **overrides).connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()


async def unused_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_a_stream_carries_bytes_both_ways_until_both_ends_have_finished(sshd: Sshd) -> None:
    """Data, our half-close, the other half-close and the end come in TCP's order."""
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
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


async def test_we_may_send_after_the_other_side_has_finished(sshd: Sshd) -> None:
    """eof_received returning True keeps our half open."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def finish_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"response")
        writer.write_eof()
        got.set_result(await reader.read())

    async with Peer().serve(finish_first) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.eof.wait()
        assert caller.tail == b"response"
        assert not caller.stream.is_closing()
        caller.stream.write(b"late request")
        caller.stream.write_eof()
        assert await got == b"late request"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_stream_whose_protocol_does_not_stay_ends_with_the_other_side(sshd: Sshd) -> None:
    """eof_received returning False closes the stream, as asyncio does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async with Peer().serve(answer) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(lambda: Recorder(keep_open=False), peer.port)
        await caller.lost.wait()
        assert (caller.received, caller.events, caller.lost_with) == (100_000, ["made", "eof", "lost"], None)
        caller.stream.write(b"dropped, as TCP's transport does")
        caller.stream.write_eof()
        caller.stream.close()
        caller.stream.abort()


async def test_a_closed_port_is_refused_and_the_tunnel_lives_on(sshd: Sshd) -> None:
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        closed = await unused_port()
        with pytest.raises(
            ChannelRefused, match=rf"^instance 7 \(direct 127.0.0.1:{sshd.port}\) does not open port"
        ):
            await tunnel.open(Recorder, closed)
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"still here")
        await caller.has_received(10)


async def test_a_forbidden_port_is_refused_with_the_reason(tmp_path: FilePath) -> None:
    with Sshd(tmp_path / "sshd", config=["AllowTcpForwarding no"]) as server:
        async with connected(server) as tunnel:
            with pytest.raises(ChannelRefused, match="AllowTcpForwarding"):
                await tunnel.open(Recorder, 80)


async def test_fifty_megabytes_arrive_unchanged_in_both_directions(sshd: Sshd) -> None:
    block = bytes(range(256)) * 4096
    expected = hashlib.sha256()
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
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


async def test_data_survives_new_session_keys(tmp_path: FilePath) -> None:
    """sshd asks for new keys after each megabyte; nothing is lost or reordered."""
    block = bytes(range(251)) * 400
    expected = hashlib.sha256()
    with Sshd(tmp_path / "sshd", config=["RekeyLimit 1M"]) as server:
        async with Peer().serve(echo) as peer, connected(server) as tunnel:
            caller = await tunnel.open(Recorder, peer.port)
            for _ in range(80):
                expected.update(block)
                await caller.writable.wait()
                caller.stream.write(block)
            caller.stream.write_eof()
            await caller.eof.wait()
            assert caller.digest.hexdigest() == expected.hexdigest()


async def test_three_hundred_streams_at_once(sshd: Sshd) -> None:
    """Each of 300 streams on one connection gets its own bytes back, and all end."""
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
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
async def test_a_cancelled_open_leaves_no_channel(sshd: Sshd, turns: int) -> None:
    """Wherever the cancellation hits, the connection inside the instance is closed again."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
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


async def test_an_abandoned_stream_is_closed_when_it_opens_late(sshd: Sshd) -> None:
    """Cancelled while sshd is frozen: the protocol is never made, and the channel ends once sshd goes on."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
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


async def test_a_slow_reader_stops_only_its_own_stream(sshd: Sshd) -> None:
    """While one stream is paused its sender is held back and another one carries 5 MB; then it goes on."""
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 20 * MB:
            writer.write(b"f" * 50_000)
            await writer.drain()
            sent += 50_000

    async with Peer().serve(flood) as flooding, Peer().serve(echo) as echoing, connected(sshd) as tunnel:
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


async def test_pausing_inside_data_received_is_obeyed_and_never_reenters(sshd: Sshd) -> None:
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

    async with Peer().serve(send) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(Picky, peer.port)
        await caller.has_received(2 * MB)
        await caller.eof.wait()


async def test_a_failing_protocol_ends_its_stream_and_not_the_tunnel(sshd: Sshd) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("parser bug")

    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(repr(context["exception"])))
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        healthy = await tunnel.open(Recorder, peer.port)
        failing = await tunnel.open(Failing, peer.port)
        failing.stream.write(b"boom")
        await failing.lost.wait()
        assert isinstance(failing.lost_with, RuntimeError)
        assert reported == ["RuntimeError('parser bug')"]
        healthy.stream.write(b"fine")
        await healthy.has_received(4)


async def test_an_exception_of_the_callers_factory_comes_back_and_closes_the_channel(sshd: Sshd) -> None:
    def broken() -> Recorder:
        raise ZeroDivisionError

    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        with pytest.raises(ZeroDivisionError):
            await tunnel.open(broken, peer.port)
        await peer.all_closed.wait()
        assert tunnel.is_alive


async def test_abort_ends_a_stream_at_once_even_when_nobody_answers(sshd: Sshd) -> None:
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        caller.stream.abort()
        async with asyncio.timeout(1):
            await caller.lost.wait()
        sshd.thaw()
        await peer.all_closed.wait()
        assert caller.lost_with is None


async def test_a_command_returns_what_it_left(sshd: Sshd) -> None:
    async with connected(sshd) as tunnel:
        result = await tunnel.run("echo out; echo err >&2; cat; exit 3", timeout_s=10)
        assert (result.exit_status, result.stdout, result.stderr) == (3, "out\n", "err\n")
        undecodable = await tunnel.run(r"printf 'a\377b'", timeout_s=10)
        assert undecodable.stdout == "a\N{REPLACEMENT CHARACTER}b"


async def test_programs_are_found_where_the_helper_puts_them(sshd: Sshd, tmp_path: FilePath) -> None:
    """A script named nvidia-smi in `path_dirs` answers for the program."""
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "asked: $1"\n')
    script.chmod(0o755)
    async with connected(sshd) as tunnel:
        result = await tunnel.run("timeout 10 nvidia-smi --query-gpu=index", timeout_s=10)
        assert (result.exit_status, result.stdout) == (0, "asked: --query-gpu=index\n")


async def test_a_command_that_takes_too_long_is_killed(sshd: Sshd, tmp_path: FilePath) -> None:
    """The process inside the instance is gone, and the tunnel lives on."""
    async with connected(sshd) as tunnel:
        with pytest.raises(TimeoutError, match=r"instance 7 .* did not end within 0.5 s"):
            await tunnel.run(f"echo $$ > {tmp_path}/pid; trap '' HUP TERM; sleep 1000", timeout_s=0.5)
        pid = int((tmp_path / "pid").read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_a_cancelled_command_is_killed(sshd: Sshd, tmp_path: FilePath) -> None:
    mark = tmp_path / "pid"
    async with connected(sshd) as tunnel:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(
                tunnel.run(f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 1000", timeout_s=60)
            )
            await asyncio.to_thread(wait_until, mark.exists, limit_s=5, what="started")
            running.cancel()
        pid = int(mark.read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")


async def test_a_command_given_up_before_it_began_is_killed_when_it_begins(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    """The time is up while sshd is frozen; once it goes on, it starts the command and the command ends."""
    mark = tmp_path / "began"
    async with connected(sshd) as tunnel:
        await tunnel.run("true", timeout_s=10)
        sshd.freeze()
        with pytest.raises(TimeoutError):
            await tunnel.run(f"sleep 1000; touch {mark}", timeout_s=0.05)
        sshd.thaw()
        await tunnel.run("true", timeout_s=10)
        await asyncio.to_thread(
            wait_until, lambda: len(sshd.children()) == 1, limit_s=5, what="only the session"
        )
        assert not mark.exists()


async def test_a_command_that_prints_too_much_is_killed_and_cut(sshd: Sshd) -> None:
    async with connected(sshd) as tunnel:
        result = await tunnel.run("yes", timeout_s=20, max_output_bytes=1000)
        assert (result.exit_status, result.stdout) == (None, "y\n" * 500)


async def test_more_commands_than_sshd_allows_wait_for_their_turn(sshd: Sshd) -> None:
    """Thirty at once, while MaxSessions is ten."""
    async with connected(sshd) as tunnel:
        results = await asyncio.gather(*(tunnel.run(f"echo {n}", timeout_s=20) for n in range(30)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(30)]


async def test_a_server_without_commands_still_forwards(tmp_path: FilePath) -> None:
    """MaxSessions 0 refuses every command: connecting works, `run` says why it does not."""
    with Sshd(tmp_path / "sshd", config=["MaxSessions 0"]) as server:
        async with Peer().serve(echo) as peer, connected(server) as tunnel:
            caller = await tunnel.open(Recorder, peer.port)
            caller.stream.write(b"hello")
            await caller.has_received(5)
            with pytest.raises(ChannelRefused, match="does not open a session for a command"):
                await tunnel.run("true", timeout_s=5)


async def test_a_command_has_run_before_the_tunnel_is_handed_out(sshd: Sshd) -> None:
    async with connected(sshd):
        await asyncio.to_thread(
            wait_until, lambda: "Starting session: command" in sshd.log, limit_s=5, what="logged"
        )


async def test_the_cheap_cipher_is_chosen(sshd: Sshd) -> None:
    async with connected(sshd) as tunnel:
        assert tunnel.cipher == "aes128-gcm@openssh.com"


async def test_a_killed_session_is_reported_to_everybody(sshd: Sshd) -> None:
    """`lost` is done, streams end with TunnelLost, a running command fails, and nothing more is opened."""
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
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
        await caller.lost.wait()
        assert isinstance(caller.lost_with, TunnelLost)
        assert "eof" not in caller.events
        assert isinstance(command.result(), TunnelLost)
        with pytest.raises(TunnelLost):
            await tunnel.open(Recorder, peer.port)
        with pytest.raises(TunnelLost):
            await tunnel.run("true", timeout_s=1)


async def outcome_of(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as exc:
        return exc


async def test_an_open_under_way_fails_when_the_connection_dies(sshd: Sshd) -> None:
    async with connected(sshd) as tunnel:
        sshd.freeze()
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(outcome_of(tunnel.open(Recorder, 9)))
            command = group.create_task(outcome_of(tunnel.run("true", timeout_s=60)))
            await asyncio.sleep(0)
            await asyncio.to_thread(sshd.kill_sessions)
        assert isinstance(opening.result(), TunnelLost)
        assert isinstance(command.result(), TunnelLost)
        sshd.thaw()


async def test_a_frozen_host_is_given_up_after_the_keepalives(sshd: Sshd) -> None:
    """With 0.2 s and 2 keepalives the loss is declared after 0.6 s."""
    loop = asyncio.get_running_loop()
    keepalive = {"keepalive_interval_s": 0.2, "keepalive_count": 2}
    async with Peer().serve(echo) as peer, connected(sshd, **keepalive) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        frozen_at = loop.time()
        async with asyncio.timeout(10):
            error = await asyncio.shield(tunnel.lost)
        assert 0.3 < loop.time() - frozen_at < 5
        assert isinstance(error, TunnelLost)
        assert "keepalive" in str(error)
        await caller.lost.wait()
        assert isinstance(caller.lost_with, TunnelLost)
        sshd.thaw()


async def test_an_idle_tunnel_stays_alive(sshd: Sshd) -> None:
    """Ten keepalive intervals without any traffic are no loss."""
    async with connected(sshd, keepalive_interval_s=0.1, keepalive_count=5) as tunnel:
        done, _ = await asyncio.wait([tunnel.lost], timeout=1.0)
        assert not done
        assert tunnel.is_alive


async def test_closing_ends_everything_and_may_be_repeated(sshd: Sshd) -> None:
    """`lost` is None for a close of ours; a stream in use hears TunnelLost, not a clean end."""
    async with Peer().serve(echo) as peer, connected(sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await asyncio.gather(tunnel.close(), tunnel.close())
        assert await tunnel.lost is None
        assert not tunnel.is_alive
        await tunnel.close()
        assert isinstance(caller.lost_with, TunnelLost)
        assert "closed by vastproxy" in str(caller.lost_with)
        with pytest.raises(TunnelLost, match="closed by vastproxy"):
            await tunnel.open(Recorder, peer.port)


async def test_closing_fails_an_open_under_way(sshd: Sshd) -> None:
    async with connected(sshd) as tunnel:
        sshd.freeze()
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(outcome_of(tunnel.open(Recorder, 9)))
            await asyncio.sleep(0)
            await tunnel.close()
        assert isinstance(opening.result(), TunnelLost)
        sshd.thaw()


async def test_a_key_that_is_not_accepted_is_refused_with_the_remedy(sshd: Sshd, tmp_path: FilePath) -> None:
    sshd.authorize()
    address = direct(sshd.port)
    with pytest.raises(TunnelRefused) as refusal:
        await engine_for(sshd).connect(target_for(address), address)
    key = sshd.client_key_path
    login = "" if sshd.username == "root" else f" for user {sshd.username}"
    assert str(refusal.value) == (
        f"instance 7 (direct 127.0.0.1:{sshd.port}) does not accept the key {key}{login}; "
        f'attach it with: vastai attach ssh 7 "$(cat {key}.pub)"'
    )


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
async def test_every_kind_of_client_key_logs_in(sshd: Sshd, tmp_path: FilePath, kind: str) -> None:
    path = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(path)
    engine = AsyncsshEngine(
        TunnelSettings(), keys=keys_of(path), pins=HostKeyPins(None), username=sshd.username
    )
    address = direct(sshd.port)
    tunnel = await engine.connect(target_for(address), address)
    await tunnel.close()


async def test_a_changed_host_key_is_refused_loudly_until_it_is_forgotten(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    """The pin holds across a restart of the proxy (a new engine on the same file), and per path."""
    file = tmp_path / "state" / "host_keys.json"
    address = direct(sshd.port)
    await (await engine_for(sshd, pins=HostKeyPins(file)).connect(target_for(address), address)).close()
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key()
    await asyncio.to_thread(sshd.start)
    pins = HostKeyPins(file)
    engine = engine_for(sshd, pins=pins)
    with pytest.raises(
        TunnelRefused, match=r"^HOST KEY CHANGED: instance 7 .*SHA256:.* forget the pins of instance 7"
    ):
        await engine.connect(target_for(address), address)
    over_relay = relay(sshd.port)
    await (await engine.connect(target_for(over_relay), over_relay)).close()
    assert await pins.forget(7) == 2
    await (await engine.connect(target_for(address), address)).close()


async def test_a_key_that_another_process_pinned_meanwhile_counts(sshd: Sshd, tmp_path: FilePath) -> None:
    """We looked before it wrote, and log in after: its pin wins over the key that we saw."""

    class Stale(HostKeyPins):
        async def refresh(self) -> None:
            pass

    file, address = tmp_path / "host_keys.json", direct(sshd.port)
    await HostKeyPins(file).trust("7@1700000000", Path.DIRECT, "ssh-ed25519 AAAA")
    with pytest.raises(TunnelRefused, match=r"^HOST KEY CHANGED"):
        await engine_for(sshd, pins=Stale(file)).connect(target_for(address), address)
    await asyncio.to_thread(wait_until, lambda: not sshd.children(), limit_s=5, what="the session has ended")


async def test_the_pinned_kind_of_key_is_asked_for(sshd: Sshd, tmp_path: FilePath) -> None:
    """A server that gets a second, better host key is still known by the first one."""
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key(kind="rsa")
    await asyncio.to_thread(sshd.start)
    pins, address = HostKeyPins(None), direct(sshd.port)
    await (await engine_for(sshd, pins=pins).connect(target_for(address), address)).close()
    assert (pins.pinned("7@1700000000", Path.DIRECT) or "").startswith("ssh-rsa ")
    await asyncio.to_thread(sshd.stop)
    second = make_key(tmp_path / "second")
    with Sshd(tmp_path / "other", config=[f"HostKey {second}", f"HostKey {sshd.host_key_path}"]) as both:
        both.authorize(sshd.client_key_path)
        there = direct(both.port)
        await (await engine_for(sshd, pins=pins).connect(target_for(there), there)).close()


async def test_nobody_listening_is_a_loss_that_names_the_address(sshd: Sshd) -> None:
    address = direct(await unused_port())
    with pytest.raises(TunnelLost, match=rf"^instance 7 \({address}\) refuses connections"):
        await engine_for(sshd).connect(target_for(address), address)


async def test_a_silent_server_is_given_up_in_time(sshd: Sshd) -> None:
    """Accepts and says nothing: connecting ends after connect_timeout_s."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Peer().serve(silent) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"did not complete an SSH login within 0.2 s"):
            await engine_for(sshd, connect_timeout_s=0.2).connect(target_for(address), address)


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(400), b""]
)
async def test_something_that_is_no_ssh_server_is_a_loss(sshd: Sshd, greeting: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        await reader.read(1)

    async with Peer().serve(talk) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"^instance 7 \(direct 127.0.0.1"):
            await engine_for(sshd).connect(target_for(address), address)


async def test_a_cancelled_connect_leaves_no_connection(sshd: Sshd) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    arrived = asyncio.Event()
    async with Peer().serve(silent) as peer:
        address = direct(peer.port)
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(engine_for(sshd).connect(target_for(address), address))
            await arrived.wait()
            connecting.cancel()
        await peer.all_closed.wait()


async def test_connects_cancelled_at_any_time_leave_no_session(sshd: Sshd) -> None:
    """Cancelled 0 to 40 ms after the start, through TCP, key exchange, login and first command."""
    engine, address = engine_for(sshd), direct(sshd.port)
    for wait_ms in range(0, 41, 4):
        connecting = asyncio.ensure_future(engine.connect(target_for(address), address))  # noqa: TID251
        await asyncio.wait([connecting], timeout=wait_ms / 1000)
        if not connecting.cancel():
            await connecting.result().close()
        await asyncio.wait([connecting])
    await asyncio.to_thread(
        wait_until, lambda: not sshd.children(), limit_s=5, what="all sessions have ended"
    )


async def test_at_most_so_many_handshakes_at_the_same_time(sshd: Sshd) -> None:
    most = now = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await reader.read()
        now -= 1

    async with Peer().serve(count) as peer:
        address = direct(peer.port)
        engine = engine_for(sshd, connect_timeout_s=0.1, max_handshakes=3)
        results = await asyncio.gather(
            *(engine.connect(target_for(address), address) for _ in range(9)), return_exceptions=True
        )
        assert [type(result) for result in results] == [TunnelLost] * 9
        assert peer.connections == 9
        assert most <= 4  # the peer may hear of an end after it has heard of the next beginning


async def test_dial_takes_the_direct_path_where_it_works(sshd: Sshd) -> None:
    target = target_for(direct(sshd.port), relay(sshd.port))
    tunnel = await dial(engine_for(sshd), target)
    assert tunnel.address.path is Path.DIRECT
    await tunnel.close()


async def test_dial_falls_back_to_the_relay_and_says_why(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    closed = await unused_port()
    target = target_for(direct(closed), relay(sshd.port))
    with caplog.at_level(logging.INFO, logger="vastproxy"):
        tunnel = await dial(engine_for(sshd), target)
    assert tunnel.address.path is Path.RELAY
    assert "refuses connections" in caplog.text
    await tunnel.close()


async def test_dial_does_not_wait_for_a_silent_direct_path(sshd: Sshd) -> None:
    """Packets to the direct port vanish: the relay is used after the head start, and nothing stays open."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Peer().serve(silent) as peer:
        target = target_for(direct(peer.port), relay(sshd.port))
        tunnel = await dial(engine_for(sshd), target, head_start_s=0.05, prefer_direct_s=0.05)
        assert tunnel.address.path is Path.RELAY
        await tunnel.close()
        await peer.all_closed.wait()


async def test_the_logger_of_asyncssh_is_quiet(sshd: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    """Commands and addresses do not reach a log that listens to everything."""
    with caplog.at_level(logging.DEBUG):
        async with connected(sshd) as tunnel:
            await tunnel.run("echo secret-argument", timeout_s=10)
    assert "secret-argument" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("asyncssh")]
