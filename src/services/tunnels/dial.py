"""Getting one tunnel to an instance that has several addresses."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from vastproxy.services.errors import KeyRefused, TunnelError, TunnelLost, TunnelRefused
from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.base import Path, SshAddress, Tunnel, TunnelEngine, TunnelTarget
from vastproxy.services.tunnels.hostcheck import HostKeyRefused

logger = logging.getLogger(__name__)

#: How long an address has for itself before the next one is tried beside it. A login over a slow line takes
#: one to two seconds; a firewalled address costs this much and not the whole connect timeout.
HEAD_START_S = 3.0
#: How long a direct attempt that is still under way may go on once the relay has answered.
PREFER_DIRECT_S = 1.0

Outcome = Tunnel | TunnelError


async def dial(
    engine: TunnelEngine,
    target: TunnelTarget,
    *,
    head_start_s: float = HEAD_START_S,
    prefer_direct_s: float = PREFER_DIRECT_S,
) -> Tunnel:
    """Connect to the first of the target's addresses that answers, in their order.

    The next address is tried when the ones before have failed, or beside them after a head start. When the
    relay answers first, a direct attempt under way gets a little longer. Raises TunnelRefused when every
    address refused us, else TunnelLost; the message names each address and its reason. When it returns,
    raises or is cancelled, every attempt but the returned one has ended.
    """
    if not target.addresses:
        raise TunnelLost(f"instance {target.instance_id} has no SSH address (yet)")
    race = _Race(engine, target)
    try:
        tunnel = await race.run(head_start_s, prefer_direct_s)
        await asyncio.shield(race.end(keep=tunnel))
    except BaseException:
        await asyncio.shield(race.end(keep=None))
        raise
    if tunnel is None:
        raise _failure(target, race.errors)
    for error in race.errors.values():  # a fallback must not hide why it was needed
        level = logging.WARNING if isinstance(error, TunnelRefused) else logging.INFO
        logger.log(level, "%s; connected over %s instead", error, tunnel.address)
    return tunnel


class _Race:
    """The attempts of one `dial`."""

    def __init__(self, engine: TunnelEngine, target: TunnelTarget) -> None:
        self._engine = engine
        self._target = target
        self._tasks = Tasks(f"dial {target.instance_id}")
        self._attempts: dict[SshAddress, asyncio.Task[Outcome]] = {}
        self.errors: dict[SshAddress, TunnelError] = {}

    async def run(self, head_start_s: float, prefer_direct_s: float) -> Tunnel | None:
        """The tunnel to use, or None when every address has failed."""
        addresses = tuple(dict.fromkeys(self._target.addresses))
        for address in addresses:
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            attempt = self._tasks.spawn(self._attempt(address, begun), name=f"to {address}")
            self._attempts[address] = attempt
            is_last = address == addresses[-1]
            if not is_last:  # a head start that is spent on waiting behind other logins is none
                waiting: set[asyncio.Future[Any]] = {begun, *self._attempts.values()}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if await self._first_success(self._attempts.values(), None if is_last else head_start_s):
                break
        best = self._best()
        if best is not None and best.address.path is Path.RELAY:
            direct = [task for at, task in self._attempts.items() if at.path is Path.DIRECT]
            await self._first_success(direct, prefer_direct_s)
        return self._best()

    def end(self, *, keep: Tunnel | None) -> "asyncio.Task[None]":
        """End what is still under way and close every tunnel but `keep`, whoever waits for it."""
        return self._tasks.spawn(self._end(keep), name="end")

    async def _attempt(self, address: SshAddress, begun: "asyncio.Future[None]") -> Outcome:
        try:
            return await self._engine.connect(self._target, address, begun=lambda: begun.set_result(None))
        except TunnelError as error:
            self.errors[address] = error
            return error

    async def _first_success(
        self, attempts: "Collection[asyncio.Task[Outcome]]", limit_s: float | None
    ) -> bool:
        """Wait until one of the attempts has succeeded, all have failed, or the time is up."""
        deadline = None if limit_s is None else asyncio.get_running_loop().time() + limit_s
        while not any(map(_tunnel_of, attempts)):
            pending = [task for task in attempts if not task.done()]
            left_s = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
            if not pending:
                return False
            done, _ = await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                return False
        return True

    def _best(self) -> Tunnel | None:
        """Of the attempts that succeeded, the one that comes first among the addresses."""
        return next(filter(None, map(_tunnel_of, self._attempts.values())), None)

    async def _end(self, keep: Tunnel | None) -> None:
        attempts = list(self._attempts.values())
        for task in attempts:
            task.cancel()
        if attempts:
            await asyncio.wait(attempts)
        for task in attempts:
            tunnel = _tunnel_of(task)
            if tunnel is not None and tunnel is not keep:
                await tunnel.close()


def _tunnel_of(attempt: "asyncio.Task[Outcome]") -> Tunnel | None:
    """What a finished attempt brought, if it is a tunnel."""
    if not attempt.done() or attempt.cancelled() or attempt.exception() is not None:
        return None
    outcome = attempt.result()
    return None if isinstance(outcome, TunnelError) else outcome


def _failure(target: TunnelTarget, errors: dict[SshAddress, TunnelError]) -> TunnelError:
    """One error for all addresses. Refused only if nobody left room for hope, or a host key is not the expected one."""
    found = [(address, errors[address]) for address in dict.fromkeys(target.addresses) if address in errors]
    if len(found) == 1:
        return found[0][1]
    for _, error in found:
        if isinstance(error, HostKeyRefused):
            return error  # whatever the others say: a person has to look at this
    texts: dict[tuple[Path, str], str] = {}
    for address, error in found:
        # A path's second address says the same of our key as its first.
        same = "key" if isinstance(error, KeyRefused) else str(error)
        texts.setdefault((address.path, same), str(error))
    message = "; ".join(dict.fromkeys(texts.values()))
    for kind in (KeyRefused, TunnelRefused):
        if found and all(isinstance(error, kind) for _, error in found):
            return kind(message)
    return TunnelLost(message or f"instance {target.instance_id} could not be connected")
