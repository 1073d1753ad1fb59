"""Probing over real SSH connections, as busy as a thousand backends, on fewer connections to a few OpenSSH servers.

A thousand connections would take two thousand processes of sshd. So fewer are probed and kept alive that much more
often, and per second the same happens as with a thousand at the default intervals.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from bench.figure import Figure
from bench.scale_fleet import ListedAccount, make_healthy
from bench.sshd import Sshd, make_key, run_sshd
from vastproxy.jobs.probe import ProbeJob
from vastproxy.services.fleet import Fleet
from vastproxy.services.tunnels.factory import make_engine
from vastproxy.settings import Settings
from vastproxy.settings.model import EngineSettings, FleetSettings, TunnelSettings
from vastproxy.simulator.account import Account
from vastproxy.vastai import VastClient

SERVERS = 4
STANDING_FOR = 1000


class CountingFleet(Fleet):
    """Counts the rounds of its probe job."""

    rounds = 0

    async def tend(self, instance_id: int) -> None:
        self.rounds += 1
        await super().tend(instance_id)


@contextlib.asynccontextmanager
async def _ssh_fleet(count: int, port: int) -> AsyncIterator[CountingFleet]:
    """So many instances, spread over a few servers, each with a connection of its own to one of them."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        root = Path(directory)
        key = make_key(root / "id_ed25519")
        servers = [stack.enter_context(run_sshd(root / f"sshd-{n}", key)) for n in range(SERVERS)]
        usual, share = Settings(), count / STANDING_FOR
        tunnels = TunnelSettings(
            key_path=str(key),
            state_dir=str(root / "state"),
            keepalive_interval_s=usual.tunnels.keepalive_interval_s * share,
            keepalive_count=60,  # the connections stay as patient as they are
        )
        settings = Settings(
            engines=EngineSettings(ports=(port,)),
            fleet=FleetSettings(probe_interval_s=usual.fleet.probe_interval_s * share),
            tunnels=tunnels,
        )
        account = Account(rate_limits=False)
        for number in range(count):
            account.add(engine="vllm", **_reachable(servers[number % SERVERS], port))
        client = cast(VastClient, ListedAccount(account))
        fleet = CountingFleet(settings, client, make_engine(settings.tunnels))
        async with fleet:
            yield fleet


def _reachable(sshd: Sshd, port: int) -> dict[str, Any]:
    """The fields of an instance behind this server."""
    return {
        "public_ipaddr": "127.0.0.1",
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(sshd.port)}]},
        "ssh_host": None,
        "ssh_port": None,
        "extra_env": [["VLLM_ARGS", f"--host 127.0.0.1 --port {port}"]],
    }


async def probe_over_ssh(count: int, port: int, seconds: float) -> list[Figure]:
    """Connecting; then nothing, for what keepalives cost; then the probe job."""
    async with _ssh_fleet(count, port) as fleet:
        cpu = time.process_time()
        await make_healthy(fleet)
        connecting_ms = (time.process_time() - cpu) / count * 1e3
        idle = await _share(seconds / 2)
        probe = ProbeJob(fleet)
        probe.start()
        await asyncio.sleep(2 * fleet.settings.fleet.probe_interval_s)  # the timers spread
        before = fleet.rounds
        probing = await _share(seconds)
        rate, wanted = (fleet.rounds - before) / seconds, count / fleet.settings.fleet.probe_interval_s
        await probe.aclose()
        assert fleet.summary().backends["healthy"] == count
    often = f"{count} connections to {SERVERS} sshd, {STANDING_FOR / count:.0f} times as often"
    note = f"{often}: {rate:.0f} rounds/s, taken as {wanted:.0f}"
    idle, probing = idle * 100, probing * wanted / rate * 100
    return [
        Figure("ssh: connecting and first round", count, connecting_ms, "ms of CPU each"),
        Figure("ssh: keepalives alone", STANDING_FOR, idle, "% of a core", often),
        Figure("ssh: probing with keepalives", STANDING_FOR, probing, "% of a core", note),
    ]


async def _share(seconds: float) -> float:
    """CPU of this process over wall time, for a while."""
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - wall)
