"""The asyncssh engine against OpenSSH's sshd: what `Tunnel` and `TunnelEngine` promise, on real sockets."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.helpers.processes import is_running, wait_until
from tests.helpers.ssh_agent import SshAgent
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import (
    Peer,
    Recorder,
    connected,
    direct,
    echo,
    engine_for,
    keys_of,
    relay,
    target_for,
    unused_port,
)
from vastproxy.services.errors import ChannelRefused, TunnelLost, TunnelRefused
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.dial import dial
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keyaccess import KeyAccess
from vastproxy.services.tunnels.keys import load_client_keys
from vastproxy.settings.model import TunnelSettings

FIXTURES = FilePath(__file__).parent.parent / "fixtures"
MB = 1_000_000


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    banner = (FIXTURES / "ssh_banner.txt").read_text()
    with Sshd(tmp_path / "sshd", path_dirs=[tmp_path / "bin"], banner=banner) as server:
        yield server


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
        begin = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; trap '' HUP TERM"
        with pytest.raises(TimeoutError, match=r"instance 7 .* did not end within 2 s"):
            await tunnel.run(f"{begin}; sleep 1000", timeout_s=2)  # enough to begin in on a busy machine
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
    keepalive: dict[str, Any] = {"keepalive_interval_s": 0.2, "keepalive_count": 2}
    async with Peer().serve(echo) as peer, connected(sshd, **keepalive) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        frozen_at = loop.time()
        async with asyncio.timeout(10):
            error = await asyncio.shield(tunnel.lost)
        assert 0.3 < loop.time() - frozen_at < 5
        assert isinstance(error, TunnelLost)
        told = re.search(r"no sign of life for (\d+\.\d) s", str(error))
        assert told is not None, error
        assert 0.4 <= float(told[1]) < 5
        await caller.lost.wait()
        assert isinstance(caller.lost_with, TunnelLost)
        sshd.thaw()


async def test_an_idle_tunnel_stays_alive(sshd: Sshd) -> None:
    """Ten keepalive intervals without any traffic are no loss."""
    async with connected(sshd, keepalive_interval_s=0.3, keepalive_count=5) as tunnel:
        done, _ = await asyncio.wait([tunnel.lost], timeout=3.0)
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
        TunnelSettings(),
        keys=keys_of(path),
        host_keys=PinnedHostKeys(HostKeyPins(None)),
        username=sshd.username,
    )
    address = direct(sshd.port)
    tunnel = await engine.connect(target_for(address), address)
    await tunnel.close()


async def test_a_changed_host_key_is_refused_loudly_until_it_is_recycled(
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
    with pytest.raises(TunnelRefused, match=r"^HOST KEY CHANGED: instance 7 .*SHA256:.* vastproxy trust 7$"):
        await engine.connect(target_for(address), address)
    over_relay = relay(sshd.port)
    await (await engine.connect(target_for(over_relay), over_relay)).close()
    assert await pins.recycled("7@1700000001") == 2
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
        engine = engine_for(sshd, connect_timeout_s=0.5, max_handshakes=3)
        results = await asyncio.gather(
            *(engine.connect(target_for(address), address) for _ in range(9)), return_exceptions=True
        )
        assert [type(result) for result in results] == [TunnelLost] * 9
        async with asyncio.timeout(10):
            while peer.connections < 9:  # the last may not have been taken yet
                await asyncio.sleep(0.005)
        assert peer.connections == 9
        assert most <= 4  # the peer may hear of an end after it has heard of the next beginning


async def test_dial_takes_the_direct_path_where_it_works(sshd: Sshd) -> None:
    target = target_for(direct(sshd.port), relay(sshd.port))
    tunnel = await dial(engine_for(sshd), target, head_start_s=30.0)
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


async def test_a_key_of_an_agent_opens_tunnels_and_an_agent_that_will_not_sign_is_named(
    sshd: Sshd, tmp_path: FilePath
) -> None:
    address = direct(sshd.port)
    for options in ((), ("-c",)):
        with SshAgent(tmp_path) as agent:
            agent.add(sshd.client_key_path, options=options)
            access = KeyAccess(agent="on", agent_socket=agent.socket)
            keys = load_client_keys(TunnelSettings(), home=None, access=access)
            engine = AsyncsshEngine(
                TunnelSettings(),
                keys=keys,
                host_keys=PinnedHostKeys(HostKeyPins(None)),
                username=sshd.username,
            )
            if options:
                with pytest.raises(
                    TunnelRefused, match=r"was not shown a key: the ssh-agent .* refuses to sign"
                ):
                    await engine.connect(target_for(address), address)
                continue
            tunnel = await engine.connect(target_for(address), address)
            assert (await tunnel.run("echo in", timeout_s=20)).stdout == "in\n"
            await tunnel.close()
