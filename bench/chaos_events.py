"""What goes wrong: several incidents at a time, each of a kind and on an instance chosen at random; each heals."""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.chaos_stage import Arena, EngineAt, Host, send
from bench.processes import BenchError

#: An instance that is given nothing for so long after it has healed is lost.
RECOVERY_LIMIT_S = 45.0
#: How a process is slowed down: stopped for so long, then let run for so long.
_STOPPED_S, _RUNNING_S = 0.15, 0.05
#: How engines misbehave: what they are told.
MISBEHAVIOUR: Mapping[str, Mapping[str, Any]] = {
    "engine answers 503": {"mode": "status", "status": 503},
    "engine answers 503, Retry-After": {"mode": "status", "status": 503, "retry_after": 2},
    "engine answers 429": {"mode": "status", "status": 429, "retry_after": 1},
    "engine answers 500": {"mode": "status", "status": 500},
    "engine loading again": {"mode": "loading", "retry_after": 1},
    "engine sends garbage": {"mode": "garbage"},
    "engine truncates": {"mode": "truncated"},
    "engine resets": {"mode": "reset"},
    "engine breaks its chunks": {"mode": "mangled"},
    "engine stalls": {"mode": "stall"},
    "engine slow": {"mode": "slow", "factor": 5.0},
}
PROCESSES = (
    "engine killed",
    "engine frozen",
    "engine stutters",
    "sshd killed",
    "sshd sessions killed",
    "sshd sessions frozen",
    "sshd frozen",
    "sshd stutters",
)
ACCOUNT = ("instance vanishes", "instance dies and vanishes", "drained")
KINDS = (*PROCESSES, *MISBEHAVIOUR, *ACCOUNT)


@dataclass(slots=True)
class Incident:
    """Something that went wrong. Times by the monotonic clock."""

    kind: str
    instance: int
    began: float
    healed: float | None = None
    model: str | None = None
    """Of what its engine serves, where it is one engine's."""
    served: float | None = None
    """When the first correct answer began that came from there after it had healed."""
    quiet_from: float | None = None
    quiet_until: float | None = None
    """Of a drain: between these times nothing new may be sent there."""


class Chaos:
    """Makes incidents and remembers them. `served_at` tells when an instance began its latest correct
    answer, of this model if one is named."""

    def __init__(
        self,
        arena: Arena,
        rng: random.Random,
        served_at: Callable[[int, str | None], float],
        say: Callable[[str], None],
        *,
        pause_s: tuple[float, float] = (1.0, 5.0),
        kinds: tuple[str, ...] = KINDS,
        lasts: float = 1.0,
    ) -> None:
        """`lasts`: times how long incidents last."""
        self._arena = arena
        self._rng = rng
        self._served_at = served_at
        self._say = say
        self._pause_s = pause_s
        self._kinds = kinds
        self._bag: list[str] = []
        self._lasts = lasts
        self.incidents: list[Incident] = []

    async def run(self, until: float, *, workers: int) -> None:
        """So many incidents at a time until then (monotonic). All have healed when it returns."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work(until))

    async def _work(self, until: float) -> None:
        while time.monotonic() + self._pause_s[0] < until:
            await asyncio.sleep(self._rng.uniform(*self._pause_s))
            idle = [host for host in self._arena.hosts if not host.is_busy]
            if not idle or time.monotonic() >= until:
                continue
            if not self._bag:
                self._bag = list(self._kinds)
                self._rng.shuffle(self._bag)
            host = self._rng.choice(idle)
            host.is_busy = True
            try:
                await self._happen(self._bag.pop(), host)
            finally:
                host.is_busy = False

    async def _happen(self, kind: str, host: Host) -> None:
        incident = Incident(kind, host.id, time.monotonic())
        self.incidents.append(incident)
        self._say(f"{kind}: {host.id}")
        await self._break_and_heal(incident, host)
        incident.healed = time.monotonic()
        while time.monotonic() < incident.healed + RECOVERY_LIMIT_S:
            if (served := self._served_at(host.id, incident.model)) > incident.healed:
                incident.served = served
                self._say(f"  {kind}: {host.id} serves again after {served - incident.healed:.1f} s")
                return
            await asyncio.sleep(0.05)
        self._say(f"  {kind}: {host.id} does NOT serve again")

    async def _break_and_heal(self, incident: Incident, host: Host) -> None:
        kind, engine = incident.kind, self._rng.choice(host.engines)
        lasts_s = self._lasts * self._rng.uniform(1.0, 9.0)
        if kind.startswith("engine"):
            incident.model = engine.model
        if kind in MISBEHAVIOUR:
            share = self._rng.choice((0.3, 1.0, 1.0))
            await engine.misbehave({**MISBEHAVIOUR[kind], "share": share})
            await asyncio.sleep(lasts_s)
            await engine.misbehave({"mode": "ok"})
        elif kind in ("drained", "instance vanishes", "instance dies and vanishes"):
            await self._of_the_account(incident, host, lasts_s)
        elif kind.startswith("engine"):
            await self._of_the_engine(kind, engine, lasts_s)
        else:
            await self._of_sshd(kind, host, lasts_s)

    async def _of_the_engine(self, kind: str, engine: EngineAt, lasts_s: float) -> None:
        if kind == "engine killed":
            await engine.kill()
            await asyncio.sleep(lasts_s)
            await engine.start()
        elif kind == "engine frozen":
            await _stop_for(lasts_s, [engine.program.pid])
        else:
            await _stutter_for(lasts_s, [engine.program.pid])

    async def _of_sshd(self, kind: str, host: Host, lasts_s: float) -> None:
        match kind:
            case "sshd killed":
                await host.kill_sshd()
                await asyncio.sleep(lasts_s)
                await host.start_sshd()
            case "sshd sessions killed":
                host.signal_sshd(signal.SIGKILL, listener=False)
            case "sshd sessions frozen":
                await _stop_for(lasts_s, host.sessions())
            case "sshd frozen":
                await _stop_for(lasts_s, [host.sshd.program.pid, *host.sessions()])
            case _:
                await _stutter_for(lasts_s, [host.sshd.program.pid, *host.sessions()])

    async def _of_the_account(self, incident: Incident, host: Host, lasts_s: float) -> None:
        if incident.kind == "drained":
            await self._drain(incident, host, lasts_s)
            return
        dies = incident.kind == "instance dies and vanishes"
        self._arena.account.remove(host.id)
        if dies:
            await host.kill_sshd()
        await asyncio.sleep(lasts_s)
        if dies:
            await host.start_sshd()
        self._arena.return_to_account(host)

    async def _drain(self, incident: Incident, host: Host, lasts_s: float) -> None:
        path = f"/vastproxy/v1/backends/{host.id}"
        await self._arena.ask(f"{path}/drain", {})
        incident.quiet_from = time.monotonic()
        await asyncio.sleep(lasts_s)
        incident.quiet_until = time.monotonic()
        try:
            await self._arena.ask(f"{path}/undrain", {})
        except BenchError as error:
            raise BenchError(f"a drain could not be taken back: {error}") from error


async def _stop_for(seconds: float, pids: list[int]) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    send(pids, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(pids, signal.SIGCONT)


async def _stutter_for(seconds: float, pids: list[int]) -> None:
    """Most of the time stopped, in short pieces: as slow as a machine that others use too much."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await _stop_for(_STOPPED_S, pids)
        await asyncio.sleep(_RUNNING_S)
