"""One instance from the outside to the inside: state, both ways, host key, engines, GPUs, and a token if wanted.

Everything is bounded in time and leaves no trace: no pin, no label, no connection that stays.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from vastproxy.services.backends.discovery import Discovery
from vastproxy.services.backends.tunnel_fetch import TunnelFetch
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.diagnosis.completion import ask_for_a_token
from vastproxy.services.diagnosis.inside import Probed, engine_checks, gpu_check, probe, read_gpus, search
from vastproxy.services.diagnosis.machine import not_served, state_check
from vastproxy.services.diagnosis.ways import Tried, host_key_check, try_way, way_checks
from vastproxy.services.errors import TunnelError
from vastproxy.services.filters import refusal
from vastproxy.services.tunnels.addresses import target_of
from vastproxy.services.tunnels.base import Path, Tunnel, TunnelEngine
from vastproxy.services.tunnels.hostcheck import HostKeyRules
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.settings.model import Settings
from vastproxy.vastai import Instance

#: Instances that are looked at side by side.
AT_A_TIME = 8
#: Longest look at one instance, whatever its parts allow themselves.
LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What an examination needs. `rules` are those of the `engine`; `engine_token` is sent to engines instead of each
    instance's own. `clock` is in Unix seconds; `limit_s` bounds the look at one instance."""

    settings: Settings
    keys: ClientKeys
    engine: TunnelEngine
    rules: HostKeyRules
    engine_token: str | None = None
    deep: bool = False
    clock: Callable[[], float] = time.time
    limit_s: float = LIMIT_S


async def examine_all(
    instances: Iterable[Instance],
    tools: Tools,
    *,
    named: Sequence[int] = (),
    done: Callable[[tuple[Check, ...]], None],
) -> None:
    """Look at all of them, `AT_A_TIME` side by side. `done` gets the checks of each as soon as they are complete."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(instance: Instance) -> None:
        async with gate:
            done(await examine(instance, tools, is_named=instance.id in named))

    async with asyncio.TaskGroup() as group:
        for instance in instances:
            group.create_task(one(instance), name=f"examine/{instance.id}")


async def examine(instance: Instance, tools: Tools, *, is_named: bool = False) -> tuple[Check, ...]:
    """All that can be said of one instance. One that the settings keep out is looked at only if it `is_named`."""
    why = refusal(instance, tools.settings.fleet)
    if why is not None and not is_named:
        return (not_served(instance, why),)
    state = state_check(instance, now=tools.clock())
    head = (state,) if why is None else (state, not_served(instance, why))
    if not instance.is_running or not instance.has_sshd:
        return head
    checks: list[Check] = list(head)
    try:
        async with asyncio.timeout(tools.limit_s), AsyncExitStack() as stack:
            await _connected(instance, tools, checks, stack)
    except TimeoutError:
        detail, fix = f"the look at it took longer than {tools.limit_s:g} s", "ask again"
        checks.append(Check("time", "time", Verdict.FAIL, detail, fix, instance.id))
    return tuple(checks)


async def _connected(instance: Instance, tools: Tools, checks: list[Check], stack: AsyncExitStack) -> None:
    target = target_of(instance)
    both = await asyncio.gather(*(try_way(tools.engine, target, path) for path in Path))
    tried = {one.path: one for one in both}
    for one in both:
        if one.tunnel is not None:
            stack.push_async_callback(one.tunnel.close)
    checks.extend(way_checks(tried, instance, tools.keys, now=tools.clock()))
    if (host_key := host_key_check(instance, tools.rules, tried)) is not None:
        checks.append(host_key)
    if (tunnel := _best(both)) is not None:
        checks.extend(await _inside(tunnel, instance, tools))


def _best(tried: Iterable[Tried]) -> Tunnel | None:
    """The tunnel that requests would take."""
    return next((one.tunnel for one in tried if one.tunnel is not None), None)


async def _inside(tunnel: Tunnel, instance: Instance, tools: Tools) -> list[Check]:
    engines, fetch = tools.settings.engines, TunnelFetch(tunnel)
    token = tools.engine_token or instance.jupyter_token
    found, gpus = await asyncio.gather(
        search(fetch, instance, engines, token), read_gpus(tunnel, instance, engines)
    )
    probed: tuple[Probed, ...] = ()
    if isinstance(found, Discovery):
        try:
            probed = await probe(fetch, found.engines, engines, token)
        except TunnelError as error:
            found = str(error)
    checks = [*engine_checks(found, probed, instance), gpu_check(gpus, instance)]
    if tools.deep:
        for one in probed:
            checks.append(await ask_for_a_token(fetch, one.engine, instance.id, token=token))
    return checks
