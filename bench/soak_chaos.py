"""What goes wrong during a soak: one incident at a time, of every kind in turn, on a machine chosen at random."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.soak_client import Ended
from bench.soak_stage import Machine, Stage
from vastproxy.simulator.faults import Fault

#: What an incident has broken may show so much later: a client reads what is left before it meets the end.
AFTERMATH_S = 3.0
_API_FAULTS = (
    Fault.SERVER_ERROR_JSON,
    Fault.BAD_GATEWAY_HTML,
    Fault.TRUNCATED_JSON,
    Fault.RATE_LIMIT_TEXT,
    Fault.FORBIDDEN_HTML,
    Fault.HANG,
)


@dataclass(slots=True)
class Incident:
    """Something that went wrong. `instance` is None for the API, whose failures excuse nobody's."""

    kind: str
    instance: int | None
    began: float
    ended: float = float("inf")

    def excuses(self, request: Ended) -> bool:
        """Did the request fail while this was happening to the machine that it was in flight on?"""
        if self.instance is None or request.instance not in (None, self.instance):
            return False
        return self.began <= request.ended <= self.ended + AFTERMATH_S


class Chaos:
    """Makes incidents, and remembers them."""

    def __init__(
        self, stage: Stage, rng: random.Random, every_s: tuple[float, float], say: Callable[[str], None]
    ) -> None:
        self._stage = stage
        self._rng = rng
        self._every_s = every_s
        self._say = say
        self.incidents: list[Incident] = []

    async def run(self, until: float) -> None:
        """Go on until that time (monotonic); the last incident has healed when it returns."""
        kinds: list[str] = []
        while True:
            pause_s = self._rng.uniform(*self._every_s)
            if time.monotonic() + pause_s >= until:
                return
            await asyncio.sleep(pause_s)
            if not kinds:
                kinds = ["sshd killed", "engine killed", "engine frozen", "api failing"]
                self._rng.shuffle(kinds)
            await self._happen(kinds.pop())

    async def _happen(self, kind: str) -> None:
        machine = self._rng.choice(self._stage.machines)
        incident = Incident(kind, None if kind == "api failing" else machine.id, time.monotonic())
        self.incidents.append(incident)
        where = "" if incident.instance is None else f" on {incident.instance}"
        self._say(f"breaks: {kind}{where}")
        try:
            await self._break_and_heal(kind, machine)
            await self._stage.wait_all_healthy()
        finally:
            incident.ended = time.monotonic()
        self._say(f"healed: {kind}{where}, {incident.ended - incident.began:.1f} s")

    async def _break_and_heal(self, kind: str, machine: Machine) -> None:
        faults = self._stage.account.faults
        match kind:
            case "sshd killed":
                await machine.kill_sshd()
                await asyncio.sleep(self._rng.uniform(1, 6))
                await machine.start_sshd()
            case "engine killed":
                await machine.kill_engine()
                await asyncio.sleep(self._rng.uniform(1, 6))
                await machine.start_engine()
            case "engine frozen":
                machine.freeze_engine()
                try:
                    await asyncio.sleep(self._rng.uniform(3, 15))
                finally:
                    machine.thaw_engine()
            case _:
                faults.always(self._rng.choice(_API_FAULTS))
                try:
                    await asyncio.sleep(self._rng.uniform(4, 12))
                finally:
                    faults.clear()
