"""The requests that wait for a place: woken when there is one, or when their time is over.

They are looked after in a step of the event loop's own behind the event that made a place, so that nobody is served in
the middle of another one's end, and a hundred ends at once are one look.
"""

import asyncio
import logging
from collections.abc import Callable

from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.dispatch.need import Need
from vastproxy.services.dispatch.nobody import Nobody
from vastproxy.services.dispatch.targets import Targets
from vastproxy.services.routing.admission import Admission

logger = logging.getLogger(__name__)


class WaitingRoom:
    """Acts for those who wait; `admission` says whose turn it is."""

    def __init__(
        self,
        admission: Admission[Claim],
        targets: Targets,
        nobody: Nobody,
        place: Callable[[Claim, Need, float], Lease],
        clock: Callable[[], float],
    ) -> None:
        """`place` leases a place to a request for which there is one."""
        self._admission = admission
        self._needs, self._passive = targets.needs, targets.passive
        self._nobody = nobody
        self._place = place
        self._clock = clock
        self._freed: dict[int, Engine] | None = {}
        """Engines at which a place was made since the last look; None: anywhere."""
        self._looking: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def look(self, engine: Engine | None = None) -> None:
        """A place may be free: at `engine`, or anywhere. Look who waits for it, soon."""
        if not self._admission.waiting_tickets or self._nobody.is_final:
            return
        if engine is None or self._passive.out:
            self._freed = None  # who is left alone depends on all of them
        elif self._freed is not None:
            self._freed[engine.key] = engine
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_soon(self._give)

    def set_timer(self) -> None:
        """Wake up when the first wait is over, or somebody may be asked again who was left alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._admission.next_deadline()
        if deadline is None or self._nobody.is_final:
            return
        now = self._clock()
        back = self._passive.next_return(now)
        delay_s = max(0.0, min(deadline, deadline if back is None else back) - now)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def aclose(self) -> None:
        """Whoever waits is told that nobody serves any more."""
        now = self._clock()
        for ticket, _ in self._admission.expired(float("inf")):
            ticket.owner.queued_s += now - ticket.owner.asked_at
            _tell(ticket.owner.refused, self._nobody.now())
        for handle in (self._looking, self._timer):
            if handle is not None:
                handle.cancel()
        self._looking = self._timer = None

    def _give(self) -> None:
        """Give those who wait the places that have become free."""
        self._looking = None
        freed, self._freed = self._freed, {}
        now = self._clock()

        def is_free(need: object) -> bool:
            assert isinstance(need, Need)
            return self._has_room(need, freed, now)

        while (ticket := self._admission.next(is_free, now)) is not None:
            claim, need = ticket.owner, ticket.need
            assert isinstance(need, Need)
            claim.queued_s += now - claim.asked_at
            _tell(claim.granted, self._place(claim, need, now))
        self.set_timer()

    def _has_room(self, need: Need, freed: dict[int, Engine] | None, now: float) -> bool:
        if not self._needs.is_known(need):
            return False  # those who wait for it wait in vain, and not for long
        left_out = self._passive.left_out(need, now)
        return need.has_room(left_out) if freed is None else need.has_room_at(freed, left_out)

    def _on_time(self) -> None:
        self._timer = None
        now = self._clock()
        for ticket, refusal in self._admission.expired(now):
            claim, need = ticket.owner, ticket.need
            assert isinstance(need, Need)
            claim.queued_s += now - claim.asked_at
            _tell(claim.refused, self._nobody.error(refusal, need))
        self.look()
        self.set_timer()


def _tell(hear: Callable[..., None], what: object) -> None:
    try:
        hear(what)
    except Exception:
        logger.exception("a request could not be told of its place")  # a bug, but the others wait too
