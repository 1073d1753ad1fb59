"""What keeps a demo busy: clients that ask again and again, and chaos beside them."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from vastproxy.cli.demo_client import Answer, ask
from vastproxy.cli.demo_view import DemoView
from vastproxy.services.tasks import Tasks
from vastproxy.services.threads import in_thread
from vastproxy.simulator.chaos import Chaos, Incident, draw
from vastproxy.simulator.simulation import Simulation

#: Strikes of `--chaos --once`.
STRIKES_ONCE = 4
#: Between two questions of a client, and two lines about all of them.
PAUSE_S = 0.3
SUMMARY_S = 5.0


@dataclass(slots=True)
class Tally:
    """What became of the requests of the clients."""

    ok: int = 0
    failed: int = 0
    by_instance: Counter[str] = field(default_factory=Counter)

    def count(self, answer: Answer) -> None:
        if answer.whole:
            self.ok += 1
            self.by_instance[answer.instance] += 1
        else:
            self.failed += 1


@asynccontextmanager
async def clients(
    count: int, url: str, model: str, view: DemoView, *, over: Callable[[], bool] = lambda: False
) -> AsyncIterator[Tally]:
    """So many clients ask, each one question after the other, for as long as the block lasts and it is not `over`: when
    the proxy ends, nobody has failed."""
    tally, tasks = Tally(), Tasks("demo")

    async def client(number: int) -> None:
        turn = 0
        while True:
            turn += 1
            asking = partial(ask, url, model, f"Client {number}, question {turn}?")
            answer = await in_thread(asking, name=f"demo-client-{number}")
            if over():
                return
            tally.count(answer)
            if not answer.whole:
                view.failed(answer.instance, answer.error or "the stream broke off")
            await asyncio.sleep(PAUSE_S)

    async def summaries() -> None:
        while True:
            await asyncio.sleep(SUMMARY_S)
            view.tally(tally.ok, tally.failed, tally.by_instance)

    try:
        for number in range(1, count + 1):
            tasks.spawn(client(number), name=f"client-{number}")
        tasks.spawn(summaries(), name="summaries")
        yield tally
    finally:
        await tasks.aclose()
        view.tally(tally.ok, tally.failed, tally.by_instance)


async def chaos(simulation: Simulation, seed: int, view: DemoView, *, once: bool) -> None:
    """Break things, and heal them again. Without `once` it goes on until it is cancelled."""

    def tell(incident: Incident) -> None:
        view.incident(str(incident), healed=incident.healed)

    rng, many = random.Random(seed), len(simulation.instances)
    strikes = draw(rng, instances=many)
    if once:
        strikes = islice(draw(rng, instances=many, pause_s=(0.5, 1.0), lasting_s=(1.0, 2.0)), STRIKES_ONCE)
    await Chaos(simulation, strikes, listener=tell).run()
