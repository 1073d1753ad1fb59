"""Gives each request its place at an engine: at once, or when one is free. Acts; `services.routing` decides.

A request brings a `Claim`. `ask` leases it a place or lets it wait; `try_elsewhere` after a failure; `finish` when it
is over, whatever became of it. Whoever waits is served by the `WaitingRoom`, in a step of its own behind the event that
made a place; a request that comes in between does not overtake.
"""

import random
from collections.abc import Callable

from vastproxy.services.dispatch.claim import MAX_ATTEMPTS, NOBODY, Claim, Lease
from vastproxy.services.dispatch.limits import admission_limits, retry_budget
from vastproxy.services.dispatch.need import Need
from vastproxy.services.dispatch.nobody import Nobody
from vastproxy.services.dispatch.targets import Targets
from vastproxy.services.dispatch.waiting import WaitingRoom
from vastproxy.services.errors import ServiceError
from vastproxy.services.events import FleetEvent
from vastproxy.services.routing.admission import Admission
from vastproxy.services.routing.outlier import Event
from vastproxy.services.routing.policy import NO_HINT, Choice
from vastproxy.services.routing.ticket import WAITING, Priority, Refusal
from vastproxy.settings import Settings


class Dispatcher:
    """See the module's docstring. All of it belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        publish: Callable[[FleetEvent], None],
        expects: Callable[[], bool],
        why_nobody: Callable[[], str],
        doubt: Callable[[int], None],
    ) -> None:
        """`expects`: may somebody come who can serve, so that waiting makes sense? `why_nobody`: why there is nobody
        now, for people. `doubt`: see `Targets`."""
        self._clock = clock
        self._nobody = Nobody(expects, why_nobody)
        self._may_wait = {
            Priority.INTERACTIVE: settings.queue.max_waiting > 0,
            Priority.BATCH: settings.queue.batch_max_waiting > 0,
        }
        self._is_capped = bool(settings.admission.max_in_flight or settings.admission.max_in_flight_per_key)
        self.admission = self._admission = Admission[Claim](admission_limits(settings))
        self.budget = self._budget = retry_budget(settings)
        self.targets = Targets(
            settings, rng, clock=clock, publish=publish, doubt=doubt, room=lambda: self._waiting.look()
        )
        self._needs, self._passive = self.targets.needs, self.targets.passive
        self._waiting = WaitingRoom(self._admission, self.targets, self._nobody, self._place, clock)

    @property
    def in_flight(self) -> int:
        """Requests that are being served."""
        return self._admission.in_flight

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self._admission.waiting

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    def ask(self, claim: Claim) -> Lease | None:
        """A place for this request; None if it has to wait, and will be told.

        Raises ModelNotFound; OverLimit or NoBackendAvailable when it may not wait. `finish` it all the same.
        """
        needs, admission, now = self._needs, self._admission, self._clock()
        claim.asked_at = now
        need = needs.table.get(claim.model)
        if need is None or need.version != needs.version:
            need = needs.find(claim.model)
        claim.need = need
        if not (self._is_capped or admission.waiting_tickets) or admission.may_begin(need, claim.asker):
            choice = self._choose(claim, need, now)
            if choice is not None:
                claim.number = admission.begin(claim.asker)
                return self._lease(claim, need, choice, now)
        self._needs.renew(need)
        self._nobody.check(need)
        found = admission.wait(need, key=claim.asker, priority=claim.priority, owner=claim, now=now)
        if isinstance(found, Refusal):
            raise self._nobody.error(found, need)
        claim.ticket = found
        self._waiting.set_timer()
        return None

    def try_elsewhere(self, claim: Claim, *, costly: bool) -> Lease | None:
        """Another place for a request whose engine has failed it; None if it has to wait, and will be told. `costly`:
        it takes one from the budget of retries.

        Raises NoBackendAvailable or ModelNotFound. `finish` it all the same.
        """
        need, now = claim.need, self._clock()
        assert need is not None
        self.let_go(claim)
        if costly:
            claim.budgeted = self._budget.take(self._admission.in_flight)
        self._needs.renew(need)
        exclude = self._passive.left_out_but(need, claim.tried, now)
        choice = need.policy.choose(claim.hint, now, exclude=exclude)
        if choice is not None:
            return self._lease(claim, need, choice, now)
        if not self._may_wait[claim.priority]:
            raise self._nobody.left(len(claim.tried))
        self._nobody.check(need)
        claim.tried = ()
        claim.asked_at = now
        if claim.ticket is not None:
            self._admission.again(claim.ticket, now)
        else:
            claim.ticket = self._admission.turn_back(
                claim.number, need, key=claim.asker, priority=claim.priority, owner=claim, now=now
            )
        if self._is_capped or need.has_room(self._passive.left_out(need, now)):
            self._waiting.look()  # whoever waited for a cap alone may be served in its stead
        self._waiting.set_timer()
        return None

    def let_go(self, claim: Claim) -> None:
        """The place that the request holds, if any, is free for others; the request itself is not over."""
        if claim.budgeted:
            claim.budgeted = False
            self._budget.give_back()
        lease = claim.lease
        if lease is None or lease.released:
            return
        lease.released = True
        lease.backend.in_flight -= 1
        lease.engine.in_flight -= 1
        if (finished := lease.need.finished) is not None:
            finished(lease.engine.key, lease.at)
        if self.targets.parting:
            self.targets.ended(lease.engine)
        if self._admission.waiting_tickets:
            self._waiting.look(lease.engine)

    def finish(self, claim: Claim) -> None:
        """The request is over, or its client has left, wherever it stands. More than once does nothing."""
        lease = claim.lease
        if lease is not None and not lease.heard:
            self.targets.left(lease)
        self.let_go(claim)
        if claim.ticket is not None:
            now = self._clock()
            if claim.ticket.stage is WAITING:
                claim.queued_s += now - claim.asked_at
            self._admission.release(claim.ticket, now)
        elif claim.number:
            claim.number = 0
            self._admission.end(claim.asker)
        if self._is_capped and self._admission.waiting_tickets:
            self._waiting.look()

    def answered(self, claim: Claim, status: int, retry_after_s: float | None = None) -> None:
        """The head of an answer has come from the engine that has its place."""
        if claim.budgeted:
            claim.budgeted = False
            self._budget.give_back()
        lease = claim.lease
        assert lease is not None
        if status < 400 and lease.engine.key not in self._passive.noted:
            lease.heard = True
            return
        self.targets.answered(lease, status, retry_after_s)
        if self._admission.waiting_tickets:
            self._waiting.look(lease.engine)

    def failed(self, claim: Claim, error: ServiceError, *, reached: bool) -> None:
        """The engine that has its place has failed it. `reached`: had an answer begun?"""
        assert claim.lease is not None
        claim.tried = {*claim.tried, claim.lease.engine.key}
        self.targets.failed(claim.lease, error, reached=reached)

    def others(self, claim: Claim) -> bool:
        """Has somebody else a place for this request, who has not failed it?"""
        need, lease = claim.need, claim.lease
        assert need is not None
        assert lease is not None
        tried = {*claim.tried, lease.engine.key}
        return self._needs.is_known(need) and need.has_room(
            self._passive.left_out_but(need, tried, self._clock())
        )

    # ── the budget of retries ──────────────────────────────────────────────────────────────────

    @property
    def may_retry(self) -> bool:
        """Is a retry left that gives engines more to do?"""
        return self._budget.taken < self._budget.allowed(self._admission.in_flight)

    # ── places ─────────────────────────────────────────────────────────────────────────────────

    def _choose(self, claim: Claim, need: Need, now: float) -> Choice | None:
        hint, passive = claim.hint, self._passive
        exclude = passive.left_out(need, now) if passive.out else NOBODY
        if hint.pin is None and hint.session is None:
            return need.choose_plain(hint, now, exclude=exclude)
        return need.policy.choose(hint, now, exclude=exclude)

    def _lease(self, claim: Claim, need: Need, choice: Choice, now: float) -> Lease:
        key = choice.candidate.key
        engine = need.members[key]
        if key in self._passive.noted:
            self._passive.note(engine, Event.PICKED, now)
            if self._passive.out:
                self._waiting.look()  # with this one left alone now, another one may not be any more
        backend = self.targets.backends[engine.instance_id]
        backend.in_flight += 1
        backend.requests += 1
        engine.requests += 1
        engine.in_flight = among = engine.in_flight + 1
        claim.lease = lease = Lease(backend, engine, need, choice, now, among)
        claim.leases.append(lease)
        if len(claim.leases) > MAX_ATTEMPTS:
            claim.leave_out()
        if claim.hint is not NO_HINT:
            need.policy.assigned(key, claim.hint, now)
        return lease

    def _place(self, claim: Claim, need: Need, now: float) -> Lease:
        """For one that has waited: somebody has a place."""
        choice = self._choose(claim, need, now)
        assert choice is not None, "a place was free a moment ago"
        return self._lease(claim, need, choice, now)

    def aclose(self) -> None:
        """Nobody is served from now on, and whoever waits is told so."""
        self._nobody.is_final = True
        self.targets.withdraw_all()
        self._waiting.aclose()
