"""What only the sshtunnel engine has: a bound on streams, local listeners, threads, and keys that paramiko borrows."""

import asyncio
import hashlib
import logging
import socket
import threading
import time
from pathlib import Path as FilePath

import pytest

from tests.helpers.processes import wait_until
from tests.helpers.ssh_agent import SshAgent
from tests.helpers.ssh_engines import paramiko_tunnel, sshtunnel_engine
from tests.helpers.ssh_login import keys_of as agent_keys
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import Peer, Recorder, direct, echo, target_for, unused_port
from vastproxy.services.errors import ChannelRefused, StreamsFull, TunnelRefused
from vastproxy.services.tunnels.forwarded import Caller
from vastproxy.services.tunnels.paramiko_slots import Slots
from vastproxy.services.tunnels.tunnel import CLOSE_LIMIT_S


async def close(caller: Recorder) -> None:
    caller.stream.close()
    await caller.lost.wait()


async def test_a_stream_too_many_is_refused_by_name_and_harms_nobody(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    """The bound holds over all tunnels of the process; a place that is given back can be taken again."""
    slots = Slots(3)
    engine = sshtunnel_engine(sshd, slots=slots)
    async with (
        Peer().serve(echo) as peer,
        paramiko_tunnel(engine, sshd) as first,
        paramiko_tunnel(engine, sshd) as second,
    ):
        callers = [await tunnel.open(Recorder, peer.port) for tunnel in (first, second, first)]
        for _ in range(2):
            with caplog.at_level(logging.WARNING), pytest.raises(StreamsFull) as refusal:
                await second.open(Recorder, peer.port)
        assert not isinstance(refusal.value, ChannelRefused)
        assert str(refusal.value) == (
            f"instance 7 (direct 127.0.0.1:{sshd.port}): all 3 streams that the sshtunnel engine carries in one "
            "process are in use; set tunnels.engine to asyncssh, which has no such limit"
        )
        assert (slots.in_use, slots.refused) == (3, 2)
        assert caplog.text.count("(streams refused since the start: 1)") == 1
        for caller in callers:
            caller.stream.write(b"unharmed")
            await caller.has_received(8)
        await close(callers.pop())
        await asyncio.to_thread(wait_until, lambda: slots.in_use == 2, limit_s=5, what="the place is free")
        callers.append(await second.open(Recorder, peer.port))
        for caller in callers:
            await close(caller)
    assert slots.in_use == 0


async def test_every_place_comes_back_however_a_stream_ends(sshd: Sshd) -> None:
    """Refused ports, cancelled opens, failing factories, aborts, and streams that are open at the end."""

    def broken() -> Recorder:
        raise ZeroDivisionError

    slots = Slots(5)
    async with (
        Peer().serve(echo) as peer,
        paramiko_tunnel(sshtunnel_engine(sshd, slots=slots), sshd) as tunnel,
    ):
        closed = await unused_port()
        for _ in range(4):
            with pytest.raises(ChannelRefused):
                await tunnel.open(Recorder, closed)
            with pytest.raises(ZeroDivisionError):
                await tunnel.open(broken, peer.port)
            (await tunnel.open(Recorder, peer.port)).stream.abort()
            opening = asyncio.ensure_future(tunnel.open(Recorder, peer.port))  # noqa: TID251
            await asyncio.wait([opening], timeout=0.002)
            if not opening.cancel():
                opening.result().stream.close()
            await asyncio.wait([opening])
            await asyncio.to_thread(wait_until, lambda: not slots.in_use, limit_s=5, what="all are free")
        for _ in range(5):
            await tunnel.open(Recorder, peer.port)
        assert slots.in_use == 5
    assert slots.in_use == 0


async def test_streams_stop_before_the_process_runs_out_of_descriptors(sshd: Sshd) -> None:
    slots = Slots(descriptors=lambda: 70)
    async with (
        Peer().serve(echo) as peer,
        paramiko_tunnel(sshtunnel_engine(sshd, slots=slots), sshd) as tunnel,
    ):
        with pytest.raises(
            StreamsFull, match=r"near its limit of 70 open files .* tunnels.engine to asyncssh"
        ):
            await tunnel.open(Recorder, peer.port)
        assert (slots.in_use, slots.refused) == (0, 1)
        assert tunnel.is_alive


async def turned_away(address: tuple[str, int], *, local_addr: tuple[str, int] | None = None) -> None:
    """Whoever connects from there is hung up on without a word."""
    reader, writer = await asyncio.open_connection(*address, local_addr=local_addr)
    writer.write(b"let me in")
    try:
        assert await reader.read() == b""
    except ConnectionResetError:
        pass  # it was closed before it had read what we wrote
    finally:
        writer.close()


async def test_a_port_listens_on_loopback_only_and_serves_nobody_else(sshd: Sshd) -> None:
    """Another program on this machine that connects to it gets nothing, and no channel is opened for it."""
    async with Peer().serve(echo) as peer, paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        [address] = tunnel.listening
        assert address[0] == "127.0.0.1"
        await turned_away(address)
        assert peer.connections == 1
        await close(caller)


async def test_a_port_is_not_fooled_by_our_number_on_another_address(sshd: Sshd) -> None:
    """While one of ours is awaited, somebody comes first from the same port of 127.0.0.2: he is turned away."""
    async with Peer().serve(echo) as peer, paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
        await close(await tunnel.open(Recorder, peer.port))
        [address] = tunnel.listening
        [listener] = tunnel._listeners._made.values()
        callers = (await listener.forwarder()).callers
        expected = Caller(asyncio.get_running_loop(), lambda: None)
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", 0))
            came_from = ours.getsockname()
            callers.expect(came_from, expected)
            await turned_away(address, local_addr=("127.0.0.2", came_from[1]))
            assert callers.claim(came_from) is expected
        expected.finish()
        assert peer.connections == 1


async def test_an_idle_port_sleeps_and_yet_ends_at_once(sshd: Sshd) -> None:
    """Its thread does not look around ten times a second, as sshtunnel's does; hundreds of them would be felt."""
    async with Peer().serve(echo) as peer:
        async with paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
            await close(await tunnel.open(Recorder, peer.port))
            [(_, port)] = tunnel.listening
            [thread] = [thread for thread in threading.enumerate() if thread.name == f"Srv-{port}"]
            woken = [10]
            while (
                len(woken) < 6 and min(woken) > 3
            ):  # on a busy machine it sleeps in waiting for its turn, too
                before = wakeups(thread)
                await asyncio.sleep(1.0)
                woken.append(wakeups(thread) - before)
            assert min(woken) <= 3
            began = time.monotonic()
        assert time.monotonic() - began < CLOSE_LIMIT_S
        thread.join(10.0)
        assert not thread.is_alive()


def wakeups(thread: threading.Thread) -> int:
    """How often the thread has gone to sleep."""
    status = FilePath(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


async def test_a_port_that_refuses_keeps_no_listener(sshd: Sshd) -> None:
    """Probing many ports costs nothing that stays; a port that serves keeps one listener for all its streams."""
    async with Peer().serve(echo) as peer, paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
        for _ in range(3):
            with pytest.raises(ChannelRefused):
                await tunnel.open(Recorder, await unused_port())
        assert tunnel.listening == []
        callers = await asyncio.gather(*(tunnel.open(Recorder, peer.port) for _ in range(10)))
        assert len(tunnel.listening) == 1
        for caller in callers:
            await close(caller)
        await close(await tunnel.open(Recorder, peer.port))
        assert len(tunnel.listening) == 1


async def test_threads_end_with_their_stream(sshd: Sshd) -> None:
    """An idle tunnel has the thread of its connection and one for each port, and no others."""
    others = frozenset(threading.enumerate())

    def count() -> int:
        ours = [thread for thread in threading.enumerate() if thread not in others]
        return len([thread for thread in ours if not thread.name.startswith("asyncio")])

    async with Peer().serve(echo) as peer, paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
        callers = await asyncio.gather(*(tunnel.open(Recorder, peer.port) for _ in range(20)))
        # A stream is open before the second of its two threads has started.
        await asyncio.to_thread(
            wait_until, lambda: count() == 2 + 2 * 20, limit_s=5, what="two threads a stream"
        )
        for caller in callers:
            await close(caller)
        await asyncio.to_thread(wait_until, lambda: count() == 2, limit_s=5, what="only what an idle one has")


async def test_streams_survive_new_keys_that_we_ask_for(sshd: Sshd) -> None:
    """After each half megabyte, while eight streams send both ways and others come and go."""
    async with Peer().serve(echo) as peer, paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
        tunnel._transport.packetizer.REKEY_BYTES = 500_000

        async def talk(number: int) -> None:
            block = bytes(range(number, number + 200)) * 200
            caller = await tunnel.open(Recorder, peer.port)
            expected = hashlib.sha256()
            for _ in range(20):
                expected.update(block)
                await caller.writable.wait()
                caller.stream.write(block)
            caller.stream.write_eof()
            await caller.eof.wait()
            assert caller.digest.hexdigest() == expected.hexdigest()
            await close(caller)

        async with asyncio.timeout(30):
            await asyncio.gather(*(talk(number) for number in range(8)))
            assert (await tunnel.run("echo done", timeout_s=10)).stdout == "done\n"


async def test_a_passing_connection_says_nothing_to_the_log(
    sshd: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    """Commands, refused ports and lost peers are ours to report; the libraries are silent."""
    with caplog.at_level(logging.DEBUG):
        async with paramiko_tunnel(sshtunnel_engine(sshd), sshd) as tunnel:
            await tunnel.run("echo secret-argument", timeout_s=10)
            with pytest.raises(ChannelRefused):
                await tunnel.open(Recorder, await unused_port())
            await asyncio.to_thread(sshd.kill_sessions)
            await asyncio.shield(tunnel.lost)
    assert "secret-argument" not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith(("paramiko", "sshtunnel"))]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_that_an_agent_holds_logs_in(sshd: Sshd, tmp_path: FilePath, kind: str) -> None:
    """There is no key file any more: the agent signs."""
    path = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(path)
    with SshAgent(tmp_path) as agent:
        agent.add(path)
        path.unlink()
        engine = sshtunnel_engine(sshd, keys=agent_keys(None, tmp_path / "empty", agent_socket=agent.socket))
        async with paramiko_tunnel(engine, sshd) as tunnel:
            assert (await tunnel.run("echo in", timeout_s=10)).stdout == "in\n"


async def test_an_agent_that_does_not_sign_is_named(sshd: Sshd, tmp_path: FilePath) -> None:
    """It asks for a confirmation that nobody can give: the key is not to blame, and the agent is named."""
    path = make_key(tmp_path / "key")
    sshd.authorize(path)
    with SshAgent(tmp_path) as agent:
        agent.add(path, options=["-c"])
        engine = sshtunnel_engine(sshd, keys=agent_keys(None, tmp_path / "empty", agent_socket=agent.socket))
        address = direct(sshd.port)
        with pytest.raises(TunnelRefused, match=r"^instance 7 .* the ssh-agent at .* refuses to sign"):
            await engine.connect(target_for(address), address)
