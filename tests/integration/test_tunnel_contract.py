"""What `TunnelEngine`, `Tunnel` and `Stream` promise, kept by both engines against OpenSSH's sshd."""

import asyncio
import hashlib
from collections.abc import Awaitable, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.helpers.processes import is_running, wait_until
from tests.helpers.ssh_engines import ENGINES, engine_named, tunnel_of, tunnel_over
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import Peer, Recorder, direct, echo, relay, target_for, unused_port
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import ChannelRefused, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.base import Path, Tunnel
from vastproxy.services.tunnels.hostkeys import HostKeyPins

MB = 1_000_000

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine under test."""
    return str(request.param)


async def outcome_of(work: Awaitable[object]) -> object:
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


# Streams.


async def test_a_stream_carries_bytes_both_ways_until_both_ends_have_finished(
    sshd: Sshd, engine: str
) -> None:
    """Data, our half-close, the other half-close and the end come in TCP's order."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
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


async def test_we_may_send_after_the_other_side_has_finished(sshd: Sshd, engine: str) -> None:
    """eof_received returning True keeps our half open; the stream ends when both halves have."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def finish_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"response")
        writer.write_eof()
        got.set_result(await reader.read())

    async with Peer().serve(finish_first) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.eof.wait()
        assert caller.tail == b"response"
        assert not caller.stream.is_closing()
        caller.stream.write(b"late request")
        caller.stream.write_eof()
        assert await got == b"late request"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_stream_whose_protocol_does_not_stay_ends_with_the_other_side(
    sshd: Sshd, engine: str
) -> None:
    """eof_received returning False closes the stream after the last byte; what is written then is dropped."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async with Peer().serve(answer) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(lambda: Recorder(keep_open=False), peer.port)
        await caller.lost.wait()
        assert (caller.received, caller.events, caller.lost_with) == (100_000, ["made", "eof", "lost"], None)
        caller.stream.write(b"dropped, as TCP's transport does")
        caller.stream.write_eof()
        caller.stream.close()
        caller.stream.abort()


async def test_an_answer_is_whole_although_the_question_was_not_read(sshd: Sshd, engine: str) -> None:
    """The other side answers and closes while we still send: every byte of its answer arrives."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"a" * 50_000)
        writer.write_eof()
        await reader.read(-1)

    async with Peer().serve(hasty) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"q" * 300_000)
        await caller.eof.wait()
        assert caller.received == 50_000
        caller.stream.close()
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_closed_stream_is_closed_inside_at_once(sshd: Sshd, engine: str) -> None:
    """`close` ends both halves over there, although the other side has neither sent nor finished anything."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.set_result(await reader.read())

    async with Peer().serve(wait_for_the_end) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"last words")
        caller.stream.close()
        assert await ended == b"last words"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_closed_port_is_refused_and_the_tunnel_lives_on(sshd: Sshd, engine: str) -> None:
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        closed = await unused_port()
        for _ in range(2):
            with pytest.raises(
                ChannelRefused,
                match=rf"^instance 7 \(direct 127.0.0.1:{sshd.port}\) does not open port {closed}: ",
            ):
                await tunnel.open(Recorder, closed)
        await echoes(tunnel, peer.port)


async def test_refused_and_open_ports_side_by_side(sshd: Sshd, engine: str) -> None:
    """Of forty opened at once every second one is refused, and it is the right ones."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        closed = await unused_port()
        ports = [closed if n % 2 else peer.port for n in range(40)]
        outcomes = await asyncio.gather(*(outcome_of(tunnel.open(Recorder, port)) for port in ports))
        assert [type(outcome) for outcome in outcomes] == [Recorder, ChannelRefused] * 20
        for outcome in outcomes:
            if isinstance(outcome, Recorder):
                outcome.stream.close()
                await outcome.lost.wait()


async def test_a_forbidden_port_is_refused_with_the_reason(tmp_path: FilePath, engine: str) -> None:
    with Sshd(tmp_path / "sshd", config=["AllowTcpForwarding no"]) as server:
        async with tunnel_over(engine, server) as tunnel:
            with pytest.raises(ChannelRefused, match="AllowTcpForwarding"):
                await tunnel.open(Recorder, 80)


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


async def test_a_failing_protocol_ends_its_stream_and_not_the_tunnel(sshd: Sshd, engine: str) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("parser bug")

    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(repr(context["exception"])))
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        failing = await tunnel.open(Failing, peer.port)
        failing.stream.write(b"boom")
        await failing.lost.wait()
        assert isinstance(failing.lost_with, RuntimeError)
        assert reported == ["RuntimeError('parser bug')"]
        await echoes(tunnel, peer.port)


async def test_an_exception_of_the_callers_factory_comes_back_and_closes_the_channel(
    sshd: Sshd, engine: str
) -> None:
    def broken() -> Recorder:
        raise ZeroDivisionError

    class Refusing(Recorder):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        for factory in (broken, Refusing):
            with pytest.raises(ZeroDivisionError):
                await tunnel.open(factory, peer.port)
        await echoes(tunnel, peer.port)
        await peer.all_closed.wait()


@pytest.mark.parametrize("wish", ["close", "abort"])
async def test_a_stream_may_be_ended_as_soon_as_it_is_made(sshd: Sshd, engine: str, wish: str) -> None:
    """Inside `connection_made`, ten times beside another stream: only their own sockets are closed."""

    class Hasty(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            getattr(transport, wish)()

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        for _ in range(10):
            caller = await tunnel.open(Hasty, peer.port)
            await echoes(tunnel, peer.port)
            await caller.lost.wait()
            assert caller.lost_with is None
        await peer.all_closed.wait()


async def test_abort_ends_a_stream_at_once_even_when_nobody_answers(sshd: Sshd, engine: str) -> None:
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        caller.stream.abort()
        async with asyncio.timeout(1):
            await caller.lost.wait()
        sshd.thaw()
        await peer.all_closed.wait()
        assert caller.lost_with is None


# Giving up.


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


# Commands.


async def test_a_command_returns_what_it_left(sshd: Sshd, engine: str) -> None:
    async with tunnel_over(engine, sshd) as tunnel:
        result = await tunnel.run("echo out; echo err >&2; cat; exit 3", timeout_s=10)
        assert (result.exit_status, result.stdout, result.stderr) == (3, "out\n", "err\n")
        undecodable = await tunnel.run(r"printf 'a\377b'", timeout_s=10)
        assert undecodable.stdout == "a\N{REPLACEMENT CHARACTER}b"
        bounded = await tunnel.run("timeout 5 echo bounded by itself", timeout_s=10)
        assert (bounded.exit_status, bounded.stdout) == (0, "bounded by itself\n")


async def test_a_command_that_takes_too_long_is_killed(sshd: Sshd, engine: str, tmp_path: FilePath) -> None:
    """The process inside the instance is gone, and the tunnel lives on."""
    async with tunnel_over(engine, sshd) as tunnel:
        with pytest.raises(TimeoutError, match=r"instance 7 .* did not end within 0.5 s"):
            await tunnel.run(f"echo $$ > {tmp_path}/pid; trap '' HUP TERM; sleep 1000", timeout_s=0.5)
        pid = int((tmp_path / "pid").read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_a_cancelled_command_is_killed(sshd: Sshd, engine: str, tmp_path: FilePath) -> None:
    mark = tmp_path / "pid"
    async with tunnel_over(engine, sshd) as tunnel:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(
                tunnel.run(f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 1000", timeout_s=60)
            )
            await asyncio.to_thread(wait_until, mark.exists, limit_s=5, what="started")
            running.cancel()
        pid = int(mark.read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")


async def test_a_command_given_up_before_it_began_is_killed_when_it_begins(
    sshd: Sshd, engine: str, tmp_path: FilePath
) -> None:
    """The time is up while sshd is frozen; once it goes on, nothing of the command remains."""
    mark = tmp_path / "began"
    async with tunnel_over(engine, sshd) as tunnel:
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


async def test_a_command_that_prints_too_much_is_killed_and_cut(sshd: Sshd, engine: str) -> None:
    async with tunnel_over(engine, sshd) as tunnel:
        result = await tunnel.run("yes", timeout_s=20, max_output_bytes=1000)
        assert (result.exit_status, result.stdout) == (None, "y\n" * 500)
        both = await tunnel.run("yes no >&2", timeout_s=20, max_output_bytes=300_000)
        assert (both.exit_status, both.stderr) == (None, "no\n" * 100_000)


async def test_more_commands_than_sshd_allows_wait_for_their_turn(sshd: Sshd, engine: str) -> None:
    """Thirty at once, while MaxSessions is ten."""
    async with tunnel_over(engine, sshd) as tunnel:
        results = await asyncio.gather(*(tunnel.run(f"echo {n}", timeout_s=20) for n in range(30)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(30)]


async def test_a_server_without_commands_still_forwards(tmp_path: FilePath, engine: str) -> None:
    """MaxSessions 0 refuses every command: connecting works, `run` says why it does not."""
    with Sshd(tmp_path / "sshd", config=["MaxSessions 0"]) as server:
        async with Peer().serve(echo) as peer, tunnel_over(engine, server) as tunnel:
            await echoes(tunnel, peer.port)
            with pytest.raises(ChannelRefused, match="does not open a session for a command"):
                await tunnel.run("true", timeout_s=5)


async def test_a_command_has_run_before_the_tunnel_is_handed_out(sshd: Sshd, engine: str) -> None:
    """It makes sshd set TCP_NODELAY on its side."""
    async with tunnel_over(engine, sshd):
        await asyncio.to_thread(
            wait_until, lambda: "Starting session: command" in sshd.log, limit_s=5, what="logged"
        )


# The end of a tunnel.


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
        async with asyncio.TaskGroup() as group, asyncio.timeout(6):
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
    """With 0.2 s and 2 keepalives the loss is declared after 0.6 s."""
    loop = asyncio.get_running_loop()
    keepalive: dict[str, Any] = {"keepalive_interval_s": 0.2, "keepalive_count": 2}
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd, **keepalive) as tunnel:
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


async def test_an_idle_tunnel_stays_alive(sshd: Sshd, engine: str) -> None:
    """Ten keepalive intervals without any traffic are no loss."""
    async with tunnel_over(engine, sshd, keepalive_interval_s=0.1, keepalive_count=5) as tunnel:
        done, _ = await asyncio.wait([tunnel.lost], timeout=1.0)
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


# Connecting.


async def test_a_changed_host_key_is_refused_before_the_login(
    sshd: Sshd, engine: str, tmp_path: FilePath
) -> None:
    """The pin holds across a restart of the proxy, and per path; sshd sees no login."""
    file = tmp_path / "state" / "host_keys.json"
    address = direct(sshd.port)
    async with tunnel_of(engine_named(engine, sshd, pins=HostKeyPins(file)), address):
        pass
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key()
    await asyncio.to_thread(sshd.start)
    pins = HostKeyPins(file)
    ours, logins = engine_named(engine, sshd, pins=pins), sshd.log.count("Accepted publickey")
    with pytest.raises(TunnelRefused, match=r"^HOST KEY CHANGED: instance 7 .*SHA256:"):
        await ours.connect(target_for(address), address)
    assert sshd.log.count("Accepted publickey") == logins
    async with tunnel_of(ours, relay(sshd.port)):
        pass
    await pins.forget(7)
    async with tunnel_of(ours, address):
        pass


async def test_both_engines_pin_the_same_key(sshd: Sshd) -> None:
    """What one engine pinned at first sight, the other one accepts."""
    address = direct(sshd.port)
    for first, second in (ENGINES, ENGINES[::-1]):
        pins = HostKeyPins(None)
        async with tunnel_of(engine_named(first, sshd, pins=pins), address):
            assert pins.pinned("7@1700000000", Path.DIRECT) == sshd.host_key
        async with tunnel_of(engine_named(second, sshd, pins=pins), address):
            pass


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
async def test_the_pinned_kind_of_key_is_asked_for(
    sshd: Sshd, engine: str, tmp_path: FilePath, kind: str
) -> None:
    """A server that gets a second, better host key is still known by the first one."""
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key(kind=kind)
    await asyncio.to_thread(sshd.start)
    pins = HostKeyPins(None)
    ours = engine_named(engine, sshd, pins=pins)
    async with tunnel_of(ours, direct(sshd.port)):
        assert pins.pinned("7@1700000000", Path.DIRECT) == sshd.host_key
    await asyncio.to_thread(sshd.stop)
    second = make_key(tmp_path / "second")
    with Sshd(tmp_path / "other", config=[f"HostKey {second}", f"HostKey {sshd.host_key_path}"]) as both:
        both.authorize(sshd.client_key_path)
        async with tunnel_of(ours, direct(both.port)):
            pass


async def test_a_key_that_is_not_accepted_is_refused_with_the_remedy(sshd: Sshd, engine: str) -> None:
    sshd.authorize()
    address = direct(sshd.port)
    with pytest.raises(TunnelRefused) as refusal:
        await engine_named(engine, sshd).connect(target_for(address), address)
    key = sshd.client_key_path
    login = "" if sshd.username == "root" else f" for user {sshd.username}"
    assert str(refusal.value) == (
        f"instance 7 (direct 127.0.0.1:{sshd.port}) does not accept the key {key}{login}; "
        f'attach it with: vastai attach ssh 7 "$(cat {key}.pub)"'
    )


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
async def test_every_kind_of_client_key_logs_in(
    sshd: Sshd, engine: str, tmp_path: FilePath, kind: str
) -> None:
    path = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(path)
    async with tunnel_of(engine_named(engine, sshd, key_path=path), direct(sshd.port)) as tunnel:
        assert tunnel.is_alive


async def test_nobody_listening_is_a_loss_that_names_the_address(sshd: Sshd, engine: str) -> None:
    address = direct(await unused_port())
    with pytest.raises(TunnelLost, match=rf"^instance 7 \({address}\) refuses connections"):
        await engine_named(engine, sshd).connect(target_for(address), address)


async def test_a_silent_server_is_given_up_in_time(sshd: Sshd, engine: str) -> None:
    """Accepts and says nothing: connecting ends after connect_timeout_s."""
    async with Peer().serve(silent) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"did not complete an SSH login within 0.2 s"):
            await engine_named(engine, sshd, connect_timeout_s=0.2).connect(target_for(address), address)


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(400), b"SSH-2.0-x\r\n", b""]
)
async def test_something_that_is_no_ssh_server_is_a_loss(sshd: Sshd, engine: str, greeting: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        await reader.read(1)

    async with Peer().serve(talk) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"^instance 7 \(direct 127.0.0.1"):
            await engine_named(engine, sshd).connect(target_for(address), address)


async def test_a_cancelled_connect_leaves_no_connection(sshd: Sshd, engine: str) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    arrived = asyncio.Event()
    async with Peer().serve(hold) as peer:
        address = direct(peer.port)
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(engine_named(engine, sshd).connect(target_for(address), address))
            await arrived.wait()
            connecting.cancel()
        await peer.all_closed.wait()


async def test_connects_cancelled_at_any_time_leave_no_session(sshd: Sshd, engine: str) -> None:
    """Cancelled 0 to 120 ms after the start, through TCP, key exchange, login and first command."""
    ours, address = engine_named(engine, sshd), direct(sshd.port)
    for wait_ms in range(0, 121, 8):
        connecting = asyncio.ensure_future(ours.connect(target_for(address), address))  # noqa: TID251
        await asyncio.wait([connecting], timeout=wait_ms / 1000)
        if not connecting.cancel():
            await connecting.result().close()
        await asyncio.wait([connecting])
    await asyncio.to_thread(
        wait_until, lambda: not sshd.children(), limit_s=5, what="all sessions have ended"
    )


async def test_at_most_so_many_handshakes_at_the_same_time(sshd: Sshd, engine: str) -> None:
    most = now = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await reader.read()
        now -= 1

    async with Peer().serve(count) as peer:
        address = direct(peer.port)
        ours = engine_named(engine, sshd, connect_timeout_s=0.2, max_handshakes=3)
        results = await asyncio.gather(
            *(ours.connect(target_for(address), address) for _ in range(9)), return_exceptions=True
        )
        assert [type(result) for result in results] == [TunnelLost] * 9
        assert peer.connections == 9
        assert most <= 4  # the peer may hear of an end after it has heard of the next beginning
