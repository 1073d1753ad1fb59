"""One task that looks after the life of all connections of an engine; `liveness` judges, here is what it takes."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from vastproxy.services.tasks import Tasks
from vastproxy.services.tunnels.liveness import Act, Life, Question, Rules, look, look_again

logger = logging.getLogger(__name__)

#: Connections looked at before others have their turn.
_AT_ONCE: Final = 256


def clock() -> float:
    """Seconds that go on while the machine sleeps, where the system has such a clock."""
    if _BOOTTIME is None:
        return time.monotonic()
    return time.clock_gettime(_BOOTTIME)


_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Pulse(Protocol):
    """A connection as the sweeper sees it. All in the loop's thread, and nothing may block."""

    @property
    def received(self) -> int:
        """Changes with whatever comes in."""
        ...

    @property
    def is_busy(self) -> bool:
        """Does somebody wait for something to come?"""
        ...

    def retransmits(self, *, is_asked: bool) -> int:
        """See `tcp.retransmits`; may be 0 unread when nothing was sent lately and no question is open."""
        ...

    def question(self) -> Question:
        """Where the first open question is; asked for in each look until it has arrived."""
        ...

    def ask(self) -> None:
        """Send something that the other side answers. The answer is forgotten once it has been counted."""
        ...

    def doubt(self, is_doubted: bool) -> None:
        """Called when that has changed."""
        ...

    def die(self, silent_s: float) -> None:
        """End the connection: nothing has come for so long."""
        ...


class Sweeper:
    """Watches connections. Its task runs only while there are any."""

    def __init__(
        self, interval_s: float, count: int, *, name: str = "tunnels", now: Callable[[], float] = clock
    ) -> None:
        """`interval_s` and `count`: see `liveness.Rules`."""
        self.rules = Rules(interval_s, count)
        self._now = now
        self._tasks = Tasks(name)
        self._lives: dict[Pulse, Life] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._lives)

    def add(self, pulse: Pulse, until: "asyncio.Future[Any]") -> None:
        """Watch a connection until that is done. Does nothing after `aclose`."""
        if self._tasks.closed:
            return
        until.add_done_callback(lambda _: self._remove(pulse))
        now = self._now()
        self._lives[pulse] = Life(pulse.received, now)
        if self._sweeping is None:
            self._swept_at = now
            self._sweeping = self._tasks.spawn(self._sweep_on(), name="signs of life")

    def _remove(self, pulse: Pulse) -> None:
        self._lives.pop(pulse, None)
        if not self._lives and self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    async def aclose(self) -> None:
        """Watch nothing any more."""
        self._lives.clear()
        await self._tasks.aclose()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self.rules.period_s)
            # What has come by now is to be read first; uvloop calls timers before it looks at sockets.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await self.sweep()

    async def sweep(self) -> None:
        """Look at every connection once."""
        now = self._now()
        is_late = now - self._swept_at > self.rules.late_s
        self._swept_at = now
        if is_late:
            logger.info("signs of life were not looked at in time; nobody is judged by them now")
        for number, pulse in enumerate(list(self._lives), 1):
            try:
                self._look_at(pulse, now, is_late)
            except Exception:
                logger.exception("looking at the life of %r failed", pulse)
            if not number % _AT_ONCE:
                await asyncio.sleep(0)

    def _look_at(self, pulse: Pulse, now: float, is_late: bool) -> None:
        life = self._lives.get(pulse)
        if life is None:
            return  # it has ended while others were looked at
        if is_late:
            after, act = look_again(life, now, received=pulse.received)
        else:
            after, act = look(
                life,
                now,
                received=pulse.received,
                is_busy=pulse.is_busy,
                retransmits=pulse.retransmits(is_asked=life.owes_since is not None),
                rules=self.rules,
                question=Question.ARRIVED if life.has_arrived else pulse.question(),
            )
        if after is not life:
            self._lives[pulse] = after
        if act is Act.ASK:
            pulse.ask()
        elif act is Act.END:
            pulse.die(now - life.heard_at)
        if after.is_doubted is not life.is_doubted:
            pulse.doubt(after.is_doubted)
