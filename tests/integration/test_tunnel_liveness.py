"""Connections of a real sshd that fall silent: doubted soon, believed again when they speak, given up in time.

With the interval of 0.4 s and five keepalives of most tests, a connection in use is asked after 0.4 s of silence,
doubted after 0.8 s and dead after 2.4 s; with the default of 5 s and two keepalives after 1, 3 and 11 s.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_REQUEST_FAILURE

from tests.helpers.faulty_relay import FaultyRelay, Side
from tests.helpers.relay_deaths import SLACK_S, listen, road_to, tick
from tests.helpers.ssh_engines import ENGINES, sshtunnel_engine
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, connected, direct, echo, engine_for, target_for
from tests.helpers.uv import SERVED_LOOP
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Tunnel, TunnelEngine

pytestmark = SERVED_LOOP

INTERVAL_S, COUNT = 0.4, 5
ASKED_S, DOUBTED_S, DEAD_S = 0.4, 0.8, 2.4
WAYS = ("fast", "stock", "sshtunnel")


class Diary:
    """What a tunnel says of its doubts, and when."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.entries: list[tuple[bool, float]] = []
        self._changed = asyncio.Event()
        tunnel.on_doubt = self._note

    @property
    def doubts(self) -> list[bool]:
        return [is_doubted for is_doubted, _ in self.entries]

    def _note(self, is_doubted: bool) -> None:
        self.entries.append((is_doubted, asyncio.get_running_loop().time()))
        self._changed.set()

    async def until(self, *doubts: bool) -> float:
        """Wait until exactly these changes have come. Returns when the last one came."""
        async with asyncio.timeout(10):
            while self.doubts != [*doubts]:
                assert len(self.entries) < len(doubts), self.entries
                self._changed.clear()
                await self._changed.wait()
        return self.entries[-1][1]


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Around asyncssh, through it, and through paramiko."""
    return str(request.param)


def engine_of(way: str, sshd: Sshd, **settings: Any) -> TunnelEngine:
    settings = {"keepalive_interval_s": INTERVAL_S, "keepalive_count": COUNT, **settings}
    if way == "sshtunnel":
        return sshtunnel_engine(sshd, **settings)
    return engine_for(sshd, fast=way == "fast", **settings)


@contextlib.asynccontextmanager
async def tunnel_of(way: str, sshd: Sshd, port: int, **settings: Any) -> AsyncIterator[Tunnel]:
    engine, address = engine_of(way, sshd, **settings), direct(port)
    tunnel = await engine.connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()
        await engine.close()


def stop(sshd: Sshd, relay: FaultyRelay) -> None:
    sshd.freeze()


def go_on(sshd: Sshd, relay: FaultyRelay) -> None:
    sshd.thaw()


Fault = Callable[[Sshd, FaultyRelay], None]
#: What makes a connection fall silent, and what makes it speak again.
PAUSES: dict[str, tuple[Fault, Fault]] = {
    "sshd stopped": (stop, go_on),
    "road frozen": (lambda sshd, relay: relay.freeze(), lambda sshd, relay: relay.thaw()),
}


@pytest.mark.parametrize("pause", PAUSES)
async def test_a_pause_is_doubted_and_forgiven(sshd: Sshd, way: str, pause: str) -> None:
    """What runs on the tunnel goes on, and nothing is lost."""
    begin, end = PAUSES[pause]
    loop = asyncio.get_running_loop()
    async with (
        Peer().serve(echo) as peer,
        road_to(sshd) as relay,
        tunnel_of(way, sshd, relay.port) as tunnel,
    ):
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        stream.stream.write(b"before")
        await stream.has_received(6)
        began = loop.time()
        begin(sshd, relay)
        doubted_at = await diary.until(True)
        assert tunnel.is_doubted
        assert tunnel.is_alive
        assert ASKED_S < doubted_at - began < DOUBTED_S + SLACK_S / 2
        stream.stream.write(b"meanwhile")
        end(sshd, relay)
        believed_at = await diary.until(True, False)
        assert not tunnel.is_doubted
        assert believed_at - doubted_at < SLACK_S
        await stream.has_received(15)
        assert tunnel.is_alive
        stream.stream.close()
        await stream.lost.wait()
        assert stream.lost_with is None


@pytest.mark.parametrize("pause", PAUSES)
async def test_a_silence_that_lasts_is_doubted_and_then_the_end(sshd: Sshd, way: str, pause: str) -> None:
    """The end is no change of the doubt. `lost` and the streams say how long nothing came."""
    loop = asyncio.get_running_loop()
    async with (
        Peer().serve(listen) as peer,
        road_to(sshd) as relay,
        tunnel_of(way, sshd, relay.port) as tunnel,
    ):
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        began = loop.time()
        PAUSES[pause][0](sshd, relay)
        await diary.until(True)
        assert tunnel.is_alive
        async with asyncio.timeout(DEAD_S + SLACK_S):
            error = await asyncio.shield(tunnel.lost)
        assert DEAD_S - ASKED_S < loop.time() - began < DEAD_S + SLACK_S
        assert not tunnel.is_alive
        assert isinstance(error, TunnelLost)
        assert str(error).startswith(f"instance 7 (direct 127.0.0.1:{relay.port}): no sign of life for ")
        await stream.lost.wait()
        assert isinstance(stream.lost_with, TunnelLost)
        assert "no sign of life for " in str(stream.lost_with)
        assert diary.doubts == [True]


async def test_a_command_that_waits_hears_of_the_silence(sshd: Sshd, way: str) -> None:
    async with road_to(sshd) as relay, tunnel_of(way, sshd, relay.port) as tunnel:
        relay.freeze()
        with pytest.raises(TunnelLost, match="no sign of life for"):
            await tunnel.run("true; echo out", timeout_s=60)


async def test_a_path_that_is_dead_in_our_direction_is_noticed(sshd: Sshd, way: str) -> None:
    """What we send is taken and never arrives."""
    async with (
        Peer().serve(listen) as peer,
        road_to(sshd) as relay,
        tunnel_of(way, sshd, relay.port) as tunnel,
    ):
        diary = Diary(tunnel)
        await tunnel.open(Recorder, peer.port)
        relay.swallow(Side.SERVER)
        await diary.until(True)
        async with asyncio.timeout(DEAD_S + SLACK_S):
            assert "no sign of life" in str(await asyncio.shield(tunnel.lost))


async def test_a_download_over_such_a_path_stops_and_is_noticed(sshd: Sshd, way: str) -> None:
    """The other side is given no more room for data, so it falls silent."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"d" * 10_000)
            await writer.drain()

    async with (
        Peer().serve(endless) as peer,
        road_to(sshd) as relay,
        tunnel_of(way, sshd, relay.port) as tunnel,
    ):
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        await stream.has_received(2_000_000)
        assert diary.doubts == []
        relay.swallow(Side.SERVER)
        await diary.until(True)
        async with asyncio.timeout(DEAD_S + SLACK_S):
            await stream.lost.wait()
        assert isinstance(stream.lost_with, TunnelLost)


async def test_an_idle_tunnel_answers_and_is_never_doubted(sshd: Sshd, way: str) -> None:
    """Six questions and their answers; nothing of them is left behind."""
    async with tunnel_of(way, sshd, sshd.port, keepalive_interval_s=0.9) as tunnel:
        diary = Diary(tunnel)
        done, _ = await asyncio.wait([tunnel.lost], timeout=5.9)
        assert not done
        assert diary.doubts == []
        assert (await tunnel.run("echo on", timeout_s=20)).stdout == "on\n"


async def test_tokens_and_thinking_are_no_silence(sshd: Sshd, way: str) -> None:
    """A stream that ticks, and one over which nothing comes for many intervals."""
    async with (
        Peer().serve(tick) as talker,
        Peer().serve(listen) as thinker,
        tunnel_of(way, sshd, sshd.port, keepalive_interval_s=0.6) as tunnel,
    ):
        diary = Diary(tunnel)
        waiting = await tunnel.open(Recorder, thinker.port)
        await asyncio.wait([tunnel.lost], timeout=4.5)
        ticking = await tunnel.open(Recorder, talker.port)
        await ticking.has_received(4 * 100)
        assert (diary.doubts, waiting.events) == ([], ["made"])


async def test_a_download_over_a_slow_line_is_never_doubted(sshd: Sshd, way: str) -> None:
    """8 KB in each 0.75 s, so that a packet takes some seconds: questions are asked, and their answers queue behind
    all the data that may be under way."""
    async with (
        Peer().serve(flood) as peer,
        road_to(sshd) as relay,
        tunnel_of(way, sshd, relay.port, keepalive_interval_s=0.6, keepalive_count=2) as tunnel,
    ):
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        await stream.has_received(1)
        relay.split(8192, pause_s=0.75)
        done, _ = await asyncio.wait([tunnel.lost], timeout=3.5)
        assert not done
        assert diary.doubts == []
        assert relay.forwarded[Side.CLIENT] - stream.received < 2_000_000, "it was not slow"
        relay.heal()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """More than fits into all the buffers on the way."""
    while True:
        writer.write(b"f" * 50_000)
        await writer.drain()


async def test_a_loop_that_is_held_up_accuses_nobody(sshd: Sshd, way: str) -> None:
    """Again and again for longer than a silence may last: what came meanwhile is read before anybody is judged."""
    async with (
        Peer().serve(tick) as peer,
        tunnel_of(way, sshd, sshd.port, keepalive_interval_s=0.5, keepalive_count=2) as tunnel,
    ):
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        held_up = threading.Event()  # that nobody sets
        for pause_s in (1.75, 0.65, 1.1, 1.75):
            await asyncio.sleep(0.3)
            held_up.wait(pause_s)
        await stream.has_received(stream.received + 40)
        assert tunnel.is_alive
        assert diary.doubts == []


@pytest.mark.parametrize("fast", [True, False])
async def test_answers_find_those_who_asked(tmp_path: FilePath, fast: bool) -> None:
    """Questions of ours among requests of asyncssh's own: each gets its own answer, as they come in order."""
    with Sshd(tmp_path / "sshd", config=["AllowTcpForwarding yes"]) as server:
        async with connected(server, fast=fast, keepalive_interval_s=60) as tunnel:
            conn = tunnel._conn

            async def forward() -> asyncssh.SSHListener:
                return await conn.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)

            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                tunnel.pulse.ask()
                tunnel.pulse.ask()
                forwarding = group.create_task(forward())
                await asyncio.sleep(0)
                tunnel.pulse.ask()
                unknown = group.create_task(conn._make_global_request(b"nobody@example.invalid"))
                await asyncio.sleep(0)
                tunnel.pulse.ask()
                last = group.create_task(conn._make_global_request(b"last@example.invalid"))
            assert forwarding.result().get_port() > 0
            assert [answer.result()[0] for answer in (unknown, last)] == 2 * [MSG_REQUEST_FAILURE]
            assert conn._global_request_waiters == []
            forwarding.result().close()


async def test_who_only_watches_is_not_busy(sshd: Sshd) -> None:
    """A command that prints now and then is nobody's answer; its tunnel is asked as seldom as an idle one."""
    async with Peer().serve(listen) as peer, connected(sshd) as tunnel:
        printed = asyncio.Event()

        def on_line(line: str) -> bool:
            printed.set()
            return True

        watches = Tasks("test")
        watches.spawn(tunnel.watch("echo on; sleep 60", on_line, silence_s=60), name="watch")
        async with asyncio.timeout(5):
            await printed.wait()
            while tunnel.pulse.is_busy:  # the command of the login may be about to end
                await asyncio.sleep(0.01)
        stream = await tunnel.open(Recorder, peer.port)
        assert tunnel.pulse.is_busy
        stream.stream.close()
        await stream.lost.wait()
        await watches.aclose()


async def test_an_asyncssh_that_is_not_known_asks_by_itself(sshd: Sshd) -> None:
    """Then nobody is doubted, but the dead are found."""
    engine = engine_for(sshd, fast=False, known=False, keepalive_interval_s=0.2, keepalive_count=2)
    address = direct(sshd.port)
    async with Peer().serve(listen) as peer:
        tunnel = await engine.connect(target_for(address), address)
        diary = Diary(tunnel)
        stream = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        async with asyncio.timeout(0.6 + SLACK_S):
            error = await asyncio.shield(tunnel.lost)
        assert "no sign of life" in str(error)
        await stream.lost.wait()
        assert diary.doubts == []
        await tunnel.close()
        sshd.thaw()


async def test_closing_the_engine_ends_the_asking(sshd: Sshd) -> None:
    """Tunnels go on, as they belong to others; no task is left."""
    for name in ENGINES:
        engine = engine_of("fast" if name == "asyncssh" else name, sshd)
        address = direct(sshd.port)
        tunnel = await engine.connect(target_for(address), address)
        await engine.close()
        assert not [task for task in asyncio.all_tasks() if "signs of life" in task.get_name()]
        assert tunnel.is_alive
        await tunnel.close()
