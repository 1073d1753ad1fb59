"""Large fleets for measurements: an account that is a list, instances without SSH, all of them healthy."""

import asyncio
from typing import cast

from bench.plain_tunnel import PlainEngine
from vastproxy.services.fleet import Fleet
from vastproxy.settings import Settings
from vastproxy.settings.model import EngineSettings
from vastproxy.simulator.account import Account
from vastproxy.vastai import Instance, InstanceList, VastClient

#: GPUs of each instance: the most that is usual, so that reading them costs what it can cost.
GPUS = 8
#: Instances that are connected at the same time.
_CONNECTING = 64


class ListedAccount:
    """The calls that a fleet makes, answered from rows that are parsed anew each time, as those of an answer are."""

    def __init__(self, account: Account) -> None:
        self._rows = account.rows()

    def list_instances(self, *, fresh: bool = False, stale_s: float = 0.0) -> InstanceList:
        return InstanceList([one for one in map(Instance.from_json, self._rows) if one is not None])

    def label_instance(self, instance_id: int, label: str) -> None:
        """Labels cost one call a second, whatever the size of the fleet."""

    def close(self) -> None:
        """Nothing is held."""


def plain_fleet(count: int, port: int) -> tuple[Fleet, PlainEngine, ListedAccount]:
    """A fleet of so many instances, each with an engine on `port` of this host."""
    account = Account(rate_limits=False)
    arguments = [["VLLM_ARGS", f"--host 127.0.0.1 --port {port}"]]
    for _ in range(count):
        account.add(gpu="H100 SXM", num_gpus=GPUS, engine="vllm", extra_env=arguments)
    engine, listed = PlainEngine(gpus=GPUS), ListedAccount(account)
    settings = Settings(engines=EngineSettings(ports=(port,)))
    return Fleet(settings, cast(VastClient, listed), engine), engine, listed


async def make_healthy(fleet: Fleet) -> None:
    """Find every backend and tend it once, a few at a time."""
    await fleet.sync()
    gate = asyncio.Semaphore(_CONNECTING)

    async def tend(instance_id: int) -> None:
        async with gate:
            await fleet.tend(instance_id)

    await asyncio.gather(*map(tend, fleet.backend_ids))
    counts = fleet.summary().backends
    assert counts["healthy"] == counts["total"] > 0, counts
