"""Two hosts and a cable: packets that really vanish, a host that has really rebooted, real loss.

The far host is a network namespace; the tests are skipped where there are none.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path as FilePath

import pytest

from tests.helpers import netns
from tests.helpers.netns import Namespace, NamespacedSshd
from tests.helpers.relay_deaths import COUNT, INTERVAL_S, MUCH, NOTICED_S, SLACK_S
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Recorder, engine_for, target_for
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.services.tunnels.tcp import give_up_after
from vastproxy.services.tunnels.tunnel import CLOSE_LIMIT_S, AsyncsshTunnel

pytestmark = BOTH_LOOPS


@pytest.fixture
def host() -> Iterator[Namespace]:
    if reason := netns.why_not():
        pytest.skip(reason)
    with Namespace() as namespace:
        yield namespace


@pytest.fixture
def far_sshd(host: Namespace, tmp_path: FilePath) -> Iterator[NamespacedSshd]:
    with NamespacedSshd(host, tmp_path / "far") as server:
        yield server


@contextlib.asynccontextmanager
async def far_tunnel(
    host: Namespace, sshd: Sshd, *, interval_s: float = INTERVAL_S
) -> AsyncIterator[AsyncsshTunnel]:
    engine = engine_for(sshd, keepalive_interval_s=interval_s, keepalive_count=COUNT)
    address = SshAddress(host.address, sshd.port, Path.DIRECT)
    tunnel = await engine.connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()


async def test_packets_that_vanish_are_noticed(host: Namespace, far_sshd: Sshd) -> None:
    """No packet passes, none is answered, and megabytes wait to be sent. The same sshd serves as the engine's port."""
    loop = asyncio.get_running_loop()
    async with far_tunnel(host, far_sshd) as tunnel:
        stream = await tunnel.open(Recorder, far_sshd.port, host=host.address)
        await stream.has_received(4)
        died_at = loop.time()
        host.unplug()
        stream.stream.write(bytes(MUCH))
        async with asyncio.timeout(NOTICED_S + SLACK_S):
            error = await asyncio.shield(tunnel.lost)
            await stream.lost.wait()
        assert loop.time() - died_at < NOTICED_S + SLACK_S
        assert isinstance(error, TunnelLost)
        assert isinstance(stream.lost_with, TunnelLost)


async def test_what_is_not_acknowledged_is_doubted_before_any_answer_is_due(
    host: Namespace, far_sshd: Sshd
) -> None:
    """With the default interval a connection in use is asked after 1 s and would be doubted after 3; that TCP sends
    something again and again says more, and sooner. Plugged in again, nothing is lost and the doubt is taken back."""
    loop = asyncio.get_running_loop()
    async with far_tunnel(host, far_sshd, interval_s=5) as tunnel:
        changes: asyncio.Queue[bool] = asyncio.Queue()
        tunnel.on_doubt = changes.put_nowait
        stream = await tunnel.open(Recorder, far_sshd.port, host=host.address)
        await stream.has_received(4)
        host.unplug()
        began = loop.time()
        stream.stream.write(b"SSH-2.0-test\r\n")
        async with asyncio.timeout(10):
            assert await changes.get()
            assert loop.time() - began < 2.9
            assert tunnel.is_alive
            host.plug_in()
            assert not await changes.get()
        await stream.has_received(200)  # how its key exchange begins
        assert tunnel.is_alive


async def test_tcp_gives_up_what_is_not_acknowledged(host: Namespace, far_sshd: Sshd) -> None:
    """After the time it was given, whatever else happens on the connection."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(host.address, far_sshd.port)
    give_up_after(writer.get_extra_info("socket"), 0.8)
    await reader.readexactly(4)
    host.unplug()
    began = loop.time()
    writer.write(b"SSH-2.0-test\r\n")
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError, match="timed out"):
            while await reader.read(1000):
                pass
    assert 0.5 < loop.time() - began < 0.8 + SLACK_S
    writer.close()


async def test_a_tunnel_has_that_limit(host: Namespace, far_sshd: Sshd) -> None:
    async with far_tunnel(host, far_sshd, interval_s=2) as tunnel:
        sock = tunnel._conn.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4 * 2 * (COUNT + 1) * 1000


async def test_closing_does_not_wait_for_vanished_packets(host: Namespace, far_sshd: Sshd) -> None:
    loop = asyncio.get_running_loop()
    async with far_tunnel(host, far_sshd, interval_s=60) as tunnel:
        stream = await tunnel.open(Recorder, far_sshd.port, host=host.address)
        await stream.has_received(4)
        host.unplug()
        stream.stream.write(bytes(MUCH))
        began = loop.time()
        await tunnel.close()
        assert loop.time() - began < CLOSE_LIMIT_S + SLACK_S
        assert await tunnel.lost is None


async def test_a_host_that_has_rebooted_is_noticed_by_its_reset(host: Namespace, far_sshd: Sshd) -> None:
    """The connection is half-open: nothing says so until the next keepalive, and its answer does at once."""
    loop = asyncio.get_running_loop()
    async with far_tunnel(host, far_sshd, interval_s=2) as tunnel:
        died_at = loop.time()
        await asyncio.to_thread(host.reboot)
        async with asyncio.timeout(10):
            error = await asyncio.shield(tunnel.lost)
        assert loop.time() - died_at < 2 + SLACK_S, "one interval, not three"
        assert isinstance(error, TunnelLost)
        assert "keepalive" not in str(error)


async def test_an_address_from_which_nothing_comes_costs_the_connect_timeout(
    host: Namespace, far_sshd: Sshd
) -> None:
    loop = asyncio.get_running_loop()
    host.unplug()
    address = SshAddress(host.address, far_sshd.port, Path.DIRECT)
    began = loop.time()
    with pytest.raises(TunnelLost, match=rf"^instance 7 \({address}\)"):
        await engine_for(far_sshd, connect_timeout_s=0.5).connect(target_for(address), address)
    assert loop.time() - began < 0.5 + SLACK_S


async def test_a_cable_that_is_plugged_in_again_in_time_loses_nothing(
    host: Namespace, far_sshd: Sshd
) -> None:
    """TCP sends again what was lost; the tunnel lives."""
    async with far_tunnel(host, far_sshd, interval_s=2) as tunnel:
        host.unplug()
        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            command = group.create_task(tunnel.run("echo alive", timeout_s=10))
            await asyncio.sleep(0.3)
            host.plug_in()
        assert command.result().stdout == "alive\n"
        assert tunnel.is_alive


async def test_lost_packets_change_nothing_but_the_time(host: Namespace, far_sshd: Sshd) -> None:
    """One in twenty, both ways."""
    try:
        host.lose(5)
    except netns.NoNamespace as reason:
        pytest.skip(f"no packets can be lost here: {reason}")
    async with far_tunnel(host, far_sshd, interval_s=5) as tunnel:
        result = await tunnel.run("head -c 300000 /dev/zero | tr '\\0' x", timeout_s=30)
        assert (result.exit_status, result.stdout) == (0, "x" * 300_000)
        assert tunnel.is_alive
