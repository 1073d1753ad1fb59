"""Misfortunes in a sequence: given as a script, or drawn from a seed. One at a time, each healed before the next.

So with two instances or more there is always one that could serve.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from vastproxy.simulator.faults import Fault
from vastproxy.simulator.instance import SimulatedInstance
from vastproxy.simulator.simulation import Simulation

#: What `SLOW` multiplies the time of a token with.
SLOW_FACTOR = 8.0


class Misfortune(StrEnum):
    """What can happen. The value is what people are told."""

    CRASH = "container crashes"
    STOP = "instance is stopped"
    OUTBID = "instance is outbid"
    ENGINE = "engine dies"
    SSH = "sshd dies"
    CUT = "connections are cut"
    DIRECT = "direct port is blocked"
    FREEZE = "instance freezes"
    SLOW = "engine becomes slow"
    API_LIMIT = "API answers 429"
    API_DOWN = "API answers 502"


API_ONLY = (Misfortune.API_LIMIT, Misfortune.API_DOWN)


@dataclass(frozen=True, slots=True)
class Strike:
    """After `pause_s`, `misfortune` meets the instance at position `victim` and lasts `lasting_s`."""

    pause_s: float
    misfortune: Misfortune
    victim: int
    lasting_s: float


@dataclass(frozen=True, slots=True)
class Incident:
    """What chaos tells while it works. `instance_id` is None where the API is met; `healed` marks the end."""

    misfortune: Misfortune
    instance_id: int | None
    healed: bool

    def __str__(self) -> str:
        whom = "" if self.instance_id is None else f"{self.instance_id}: "
        return f"{whom}{self.misfortune}{' – over' if self.healed else ''}"


Listener = Callable[[Incident], None]


def draw(
    rng: random.Random,
    *,
    instances: int,
    pause_s: tuple[float, float] = (3.0, 8.0),
    lasting_s: tuple[float, float] = (4.0, 10.0),
) -> Iterator[Strike]:
    """Strikes without end. Every kind occurs once before any occurs again."""
    while True:
        kinds = list(Misfortune)
        rng.shuffle(kinds)
        for kind in kinds:
            yield Strike(
                rng.uniform(*pause_s), kind, rng.randrange(max(1, instances)), rng.uniform(*lasting_s)
            )


class Chaos:
    """Carries out strikes on a simulation."""

    def __init__(
        self, simulation: Simulation, strikes: Iterable[Strike], *, listener: Listener | None = None
    ) -> None:
        self._simulation = simulation
        self._strikes = strikes
        self._tell: Listener = listener or (lambda incident: None)

    async def run(self) -> None:
        """Until the strikes are used up; for ever when they have no end. What is broken is healed on leaving."""
        for strike in self._strikes:
            await asyncio.sleep(strike.pause_s)
            machines = self._simulation.instances
            if strike.misfortune in API_ONLY:
                await self._strike_api(strike)
            elif machines:
                await self._strike_instance(strike, machines[strike.victim % len(machines)])

    async def _strike_api(self, strike: Strike) -> None:
        limited = strike.misfortune is Misfortune.API_LIMIT
        faults = self._simulation.account.faults
        faults.always(Fault.RATE_LIMIT_TEXT if limited else Fault.BAD_GATEWAY_HTML)
        self._tell(Incident(strike.misfortune, None, healed=False))
        try:
            await asyncio.sleep(strike.lasting_s)
        finally:
            faults.clear()
        self._tell(Incident(strike.misfortune, None, healed=True))

    async def _strike_instance(self, strike: Strike, machine: SimulatedInstance) -> None:
        self._tell(Incident(strike.misfortune, machine.id, healed=False))
        try:
            await hurt(machine, strike.misfortune)
            await asyncio.sleep(strike.lasting_s)
        finally:
            if machine in self._simulation.instances:
                await heal(machine, strike.misfortune)
        self._tell(Incident(strike.misfortune, machine.id, healed=True))


async def hurt(machine: SimulatedInstance, misfortune: Misfortune) -> None:
    """Do it to one instance."""
    match misfortune:
        case Misfortune.CRASH:
            await machine.die()
        case Misfortune.STOP:
            await machine.stop()
        case Misfortune.OUTBID:
            await machine.outbid()
        case Misfortune.ENGINE:
            await machine.engine_down()
        case Misfortune.SSH:
            await machine.kill_ssh()
        case Misfortune.CUT:
            machine.drop_connections()
        case Misfortune.DIRECT:
            await machine.block_direct()
        case Misfortune.FREEZE:
            machine.freeze()
        case Misfortune.SLOW:
            machine.slow_down(SLOW_FACTOR)
        case _:
            raise ValueError(f"{misfortune.name} does not happen to an instance")


async def heal(machine: SimulatedInstance, misfortune: Misfortune) -> None:
    """Undo it."""
    match misfortune:
        case Misfortune.OUTBID:
            machine.contract.row["min_bid"] = round(float(machine.contract.row["dph_base"]) * 0.6, 4)
            await machine.start()
        case Misfortune.CRASH | Misfortune.STOP:
            await machine.start()
        case Misfortune.ENGINE:
            await machine.engine_up()
        case Misfortune.SSH:
            await machine.restore_ssh()
        case Misfortune.DIRECT:
            await machine.unblock_direct()
        case Misfortune.FREEZE:
            machine.thaw()
        case Misfortune.SLOW:
            machine.slow_down(1.0)
        case _:
            pass
