"""The order of a whole examination, over plain TCP: what is looked at, when it stops, and that all ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path as FilePath

import asyncssh
import pytest

from tests.helpers.builders import ROW, make_instance
from tests.helpers.engines import FakeEngine
from tests.helpers.plain import PlainEngine, PlainTunnel
from tests.helpers.tunnelling import keys_of
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.diagnosis.examination import AT_A_TIME, Tools, examine, examine_all
from vastproxy.services.diagnosis.hostkeys import SeenHostKeys
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import SshAddress, TunnelTarget
from vastproxy.settings.model import EngineSettings, FleetSettings, Selector, Settings
from vastproxy.vastai import Instance

ENGINES = EngineSettings(ports=(18000,), detect_timeout_s=2.0, health_timeout_s=2.0)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where every instance's sshd seems to listen."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def tools(tmp_path: FilePath) -> Tools:
    path = tmp_path / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    path.chmod(0o600)
    settings = Settings(engines=ENGINES, fleet=FleetSettings(exclude=Selector(ids=(13,))))
    return Tools(
        settings,
        keys_of(path),
        PlainEngine(),
        SeenHostKeys(None),
        deep=True,
        clock=lambda: ROW["start_date"] + 999,
    )


def plain(tools: Tools) -> PlainEngine:
    assert isinstance(tools.engine, PlainEngine)
    return tools.engine


def instance(id: int, port: int) -> Instance:
    return make_instance(
        id=id,
        public_ipaddr="127.0.0.1",
        ports={"22/tcp": [{"HostPort": str(port)}]},
        ssh_host=None,
        extra_env=None,
    )


def ids(checks: tuple[Check, ...]) -> list[str]:
    return [check.id for check in checks]


async def test_a_whole_examination_ends_all_that_it_began(port: int, tools: Tools) -> None:
    async with FakeEngine("vllm", token="token-of-7", models=("m",)) as served:
        plain(tools).ports[7, 18000] = served.port
        checks = await examine(instance(7, port), tools)
    assert ids(checks) == [
        *("state", "direct_path", "relay_path", "engine", "models", "engine_token", "gpus", "completion"),
    ]
    assert {check.verdict for check in checks if check.id not in ("relay_path", "gpus")} == {Verdict.OK}
    assert "ours is accepted" in checks[5].detail
    assert not any(tunnel.is_alive for tunnel in plain(tools).tunnels[7])


async def test_what_does_not_run_or_cannot_be_entered_is_not_tried(port: int, tools: Tools) -> None:
    loading = make_instance(id=8, actual_status="loading")
    assert ids(await examine(loading, tools)) == ["state"]
    assert ids(await examine(make_instance(id=9, image_runtype="args"), tools)) == ["state"]
    assert plain(tools).tunnels == {}


async def test_what_the_settings_keep_out_is_looked_at_only_by_name(port: int, tools: Tools) -> None:
    (check,) = await examine(instance(13, port), tools)
    assert (check.verdict, check.detail) == (Verdict.SKIP, "not served: excluded by id 13")
    assert "engine" in ids(await examine(instance(13, port), tools, is_named=True))


async def test_without_a_way_in_nothing_is_said_of_the_inside(port: int, tools: Tools) -> None:
    plain(tools).unreachable.add(7)
    assert ids(await examine(instance(7, port), tools)) == ["state", "direct_path", "relay_path"]


class _Counting(PlainEngine):
    """Lets nobody in, and counts who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.full = asyncio.Event()

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> PlainTunnel:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == AT_A_TIME:
            self.full.set()
        await self.full.wait()
        self.now -= 1
        raise TunnelLost("no")


async def test_instances_are_looked_at_side_by_side_but_not_all_at_once(port: int, tools: Tools) -> None:
    engine = _Counting()
    many = [instance(id, port) for id in range(100, 100 + 2 * AT_A_TIME)]
    seen: list[tuple[Check, ...]] = []
    crowd = Tools(tools.settings, tools.keys, engine, tools.rules, clock=tools.clock)
    async with asyncio.timeout(10):
        await examine_all(many, crowd, done=seen.append)
    assert engine.most == AT_A_TIME
    assert sorted(checks[0].instance or 0 for checks in seen) == [one.id for one in many]


async def test_one_that_takes_for_ever_is_given_up(port: int, tools: Tools) -> None:
    class Silent(PlainEngine):
        async def connect(
            self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
        ) -> PlainTunnel:
            await asyncio.Event().wait()
            raise AssertionError

    slow = Tools(tools.settings, tools.keys, Silent(), tools.rules, clock=tools.clock, limit_s=0.1)
    checks = await examine(instance(7, port), slow)
    assert ids(checks) == ["state", "time"]
    assert checks[1].verdict is Verdict.FAIL
