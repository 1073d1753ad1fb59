"""Never over a cap, and nobody waits while a place is free that could serve him."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vastproxy.services.routing.admission import Admission, AdmissionLimits, free_for, has_room, limit_of
from vastproxy.services.routing.ticket import ClassLimits, Priority, Reason, Refusal, Stage, Ticket

INTERACTIVE, BATCH = Priority


@dataclass(eq=False)
class Candidate:
    models: frozenset[str]
    limit: int | None
    in_flight: int = 0
    is_alive: bool = True


@dataclass(eq=False)
class Request:
    """The owner of a ticket: where it is being served, and whether it ever was."""

    lease: Candidate | None = None
    was_served: bool = False


def serves(candidate: Candidate, need: Hashable) -> bool:
    return candidate.is_alive and (need is None or need in candidate.models)


@pytest.mark.parametrize(
    ("told", "configured", "expected"),
    [(None, None, None), (4, None, 4), (None, 8, 8), (4, 8, 4), (256, 8, 8), (0, None, None), (0, 8, 8)],
)
def test_the_lower_of_what_the_engine_tells_and_what_is_configured_is_the_cap(
    told: int | None, configured: int | None, expected: int | None
) -> None:
    assert limit_of(told, configured) == expected


@pytest.mark.parametrize(
    ("in_flight", "limit", "expected"), [(0, 1, True), (1, 1, False), (2, 1, False), (9, None, True)]
)
def test_there_is_room_below_the_cap(in_flight: int, limit: int | None, expected: bool) -> None:
    assert has_room(Candidate(frozenset(), limit, in_flight)) is expected


def test_a_place_is_free_for_what_its_candidate_serves() -> None:
    full = Candidate(frozenset({"x"}), 1, 1)
    roomy = Candidate(frozenset({"y"}), 2, 1)
    is_free = free_for([full, roomy], serves)
    assert [is_free(need) for need in ("x", "y", None)] == [False, True, True]
    assert not free_for([], serves)(None)


@pytest.mark.parametrize("most", [0, -1])
def test_a_cap_that_lets_nobody_in_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AdmissionLimits(max_in_flight=most)
    with pytest.raises(ValueError, match="at least 1"):
        AdmissionLimits(max_in_flight_per_key=most)


def ask(
    admission: Admission[None], key: Hashable = "a", *, free: bool = True, now: float = 0.0
) -> Ticket[None] | Refusal:
    return admission.ask("m", key=key, priority=INTERACTIVE, owner=None, is_free=lambda _: free, now=now)


def granted(answer: Ticket[None] | Refusal) -> Ticket[None]:
    assert isinstance(answer, Ticket)
    assert answer.stage is Stage.GRANTED
    return answer


def waiting(answer: Ticket[None] | Refusal) -> Ticket[None]:
    assert isinstance(answer, Ticket)
    assert answer.stage is Stage.WAITING
    return answer


def test_who_finds_a_place_does_not_wait_and_who_finds_none_does() -> None:
    admission: Admission[None] = Admission(AdmissionLimits())
    granted(ask(admission))
    ticket = waiting(ask(admission, free=False))
    assert (admission.in_flight, admission.waiting, admission.waiting_of(INTERACTIVE)) == (1, 1, 1)
    assert repr(admission) == "<Admission in_flight=1 waiting=1>"
    assert admission.next(lambda _: True, 0.0) is ticket
    assert admission.in_flight_of("a") == 2


def test_a_request_that_comes_before_the_queue_was_asked_does_not_overtake() -> None:
    admission: Admission[None] = Admission(AdmissionLimits())
    first = waiting(ask(admission, free=False))
    second = waiting(ask(admission, "b"))
    assert [admission.next(lambda _: True, 0.0) for _ in range(2)] == [first, second]


def test_a_key_over_its_cap_waits_and_others_do_not() -> None:
    admission: Admission[None] = Admission(AdmissionLimits(max_in_flight_per_key=1))
    first = granted(ask(admission))
    second = waiting(ask(admission))
    granted(ask(admission, "b"))
    assert admission.next(lambda _: True, 0.0) is None
    admission.release(first, 1.0)
    assert admission.next(lambda _: True, 1.0) is second


def test_where_nobody_is_told_apart_there_is_no_cap_for_a_key() -> None:
    admission: Admission[None] = Admission(AdmissionLimits(max_in_flight_per_key=1))
    for _ in range(5):
        granted(ask(admission, None))
    assert admission.in_flight_of(None) == 0


def test_without_a_queue_who_finds_no_place_is_refused_at_once() -> None:
    none = ClassLimits(max_waiting=0, max_waiting_per_key=0, max_wait_s=1.0)
    admission: Admission[None] = Admission(
        AdmissionLimits(max_in_flight=2, max_in_flight_per_key=1, interactive=none)
    )
    granted(ask(admission))
    assert ask(admission) == Refusal(Reason.KEY_IN_FLIGHT, 5)
    granted(ask(admission, "b"))
    assert ask(admission, "c") == Refusal(Reason.QUEUE_FULL, 5)


def test_a_place_in_the_queue_survives_zero_backends_for_as_long_as_its_class_may_wait() -> None:
    admission: Admission[None] = Admission(AdmissionLimits())
    ticket = waiting(ask(admission, free=False, now=10.0))
    assert admission.next_deadline() == 70.0
    assert admission.expired(69.9) == []
    ((over, refusal),) = admission.expired(70.0)
    assert (over, over.stage, refusal.status) == (ticket, Stage.OVER, 503)
    admission.release(ticket, 71.0)
    assert admission.in_flight == 0


class Routing(RuleBasedStateMachine):
    """A small fleet with tight limits, whose owner does what `Admission` asks of him: pump after each event."""

    BATCH_AFTER = 2
    MODELS = ("x", "y")
    KEYS = ("a", "b", None)

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.limits = AdmissionLimits(
            max_in_flight=7,
            max_in_flight_per_key=4,
            interactive=ClassLimits(max_waiting=12, max_waiting_per_key=6, max_wait_s=30.0),
            batch=ClassLimits(max_waiting=12, max_waiting_per_key=6, max_wait_s=90.0),
            batch_after=self.BATCH_AFTER,
        )
        self.admission: Admission[Request] = Admission(self.limits)
        self.fleet: list[Candidate] = []
        self.tickets: list[Ticket[Request]] = []
        self.passed: Counter[Hashable] = Counter()

    @initialize(
        fleet=st.lists(
            st.builds(
                Candidate,
                st.frozensets(st.sampled_from(MODELS)),
                st.integers(1, 3),
            ),
            max_size=3,
        )
    )
    def begin(self, fleet: list[Candidate]) -> None:
        self.fleet = fleet

    # ── what happens ───────────────────────────────────────────────────────────────────────────

    @rule(
        need=st.sampled_from([*MODELS, None]),
        key=st.sampled_from(KEYS),
        priority=st.sampled_from(Priority),
        times=st.integers(1, 4),
    )
    def ask(self, need: str | None, key: str | None, priority: Priority, times: int) -> None:
        for _ in range(times):
            self.ask_once(need, key, priority)

    def ask_once(self, need: str | None, key: str | None, priority: Priority) -> None:
        before = self.waiting()
        answer = self.admission.ask(
            need,
            key=key,
            priority=priority,
            owner=Request(),
            is_free=free_for(self.fleet, serves),
            now=self.now,
        )
        if isinstance(answer, Refusal):
            same = [ticket for ticket in before if ticket.priority is priority]
            of_key = [ticket for ticket in same if ticket.key == key]
            assert len(same) >= 12 or (key is not None and len(of_key) >= 6)  # more where some came back
            assert (answer.status == 429) <= (key is not None)
            return
        self.tickets.append(answer)
        if answer.stage is Stage.GRANTED:
            self.lease(answer)

    @precondition(lambda self: self.granted())
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data: st.DataObject, fails: bool) -> None:
        """Answered, or its attempt failed and it is to be sent elsewhere."""
        ticket = data.draw(st.sampled_from(self.granted()))
        self.give_back(ticket)
        if fails:
            self.admission.again(ticket, self.now)
        else:
            self.admission.release(ticket, self.now)
            self.tickets.remove(ticket)
        self.pump()

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """The client goes, in the queue or in the middle of an answer; it is said twice."""
        ticket = data.draw(st.sampled_from(self.tickets))
        self.give_back(ticket)
        for _ in range(2):
            self.admission.release(ticket, self.now)
        self.tickets.remove(ticket)
        self.pump()

    @precondition(lambda self: self.fleet)
    @rule(data=st.data(), elsewhere=st.booleans())
    def die(self, data: st.DataObject, elsewhere: bool) -> None:
        candidate = data.draw(st.sampled_from(self.fleet))
        candidate.is_alive = False
        for ticket in [each for each in self.granted() if each.owner.lease is candidate]:
            self.give_back(ticket)
            if elsewhere:
                self.admission.again(ticket, self.now)
            else:
                self.admission.release(ticket, self.now)
                self.tickets.remove(ticket)
        self.pump()

    @precondition(lambda self: self.fleet)
    @rule(data=st.data(), limit=st.none() | st.integers(1, 3))
    def come(self, data: st.DataObject, limit: int | None) -> None:
        """A candidate is there (again), perhaps with another limit."""
        candidate = data.draw(st.sampled_from(self.fleet))
        candidate.is_alive, candidate.limit = True, limit
        self.pump()

    @rule(wait_s=st.sampled_from([0.1, 5.0, 30.0]))
    def wait(self, wait_s: float) -> None:
        self.now += wait_s
        for ticket, refusal in self.admission.expired(self.now):
            assert ticket.deadline <= self.now
            assert refusal.status in (429, 503)
            assert refusal.retry_after_s >= 1
            self.tickets.remove(ticket)
        self.pump()

    # ── what the owner does ────────────────────────────────────────────────────────────────────

    def pump(self) -> None:
        wanted = {ticket.need for ticket in self.waiting() if ticket.priority is BATCH}
        for need in self.passed.keys() - wanted:
            del self.passed[need]  # those who were passed over have left
        while (ticket := self.admission.next(free_for(self.fleet, serves), self.now)) is not None:
            self.check_turn(ticket)
            self.lease(ticket)

    def lease(self, ticket: Ticket[Request]) -> None:
        able = [each for each in self.fleet if serves(each, ticket.need) and has_room(each)]
        assert able, "granted where no place is free"
        chosen = min(able, key=lambda each: each.in_flight)
        chosen.in_flight += 1
        assert chosen.limit is None or chosen.in_flight <= chosen.limit
        ticket.owner.lease, ticket.owner.was_served = chosen, True

    def give_back(self, ticket: Ticket[Request]) -> None:
        if ticket.owner.lease is not None:
            ticket.owner.lease.in_flight -= 1
            ticket.owner.lease = None

    def check_turn(self, ticket: Ticket[Request]) -> None:
        """First come, first served within key and class; batch is not passed over for ever."""
        is_free = free_for(self.fleet, serves)
        rivals = [
            each for each in self.waiting() if is_free(each.need) and self.key_has_room(each.key, ticket)
        ]
        for other in rivals:
            if (other.key, other.priority) == (ticket.key, ticket.priority):
                assert other.number > ticket.number
        passed = {each.need for each in rivals if each.priority is BATCH}
        if ticket.priority is BATCH:
            assert self.passed_over(passed | {ticket.need}) or not any(
                each.priority is INTERACTIVE for each in rivals
            )
            for need in passed | {ticket.need}:
                del self.passed[need]
            return
        for need in passed:
            self.passed[need] += 1
            assert self.passed[need] <= self.BATCH_AFTER

    def passed_over(self, needs: set[Hashable]) -> bool:
        return any(self.passed[need] >= self.BATCH_AFTER for need in needs)

    def key_has_room(self, key: Hashable, just_granted: Ticket[Request]) -> bool:
        if key is None:
            return True
        taken = sum(1 for each in self.granted() if each.key == key and each is not just_granted)
        return taken < 4

    def waiting(self) -> list[Ticket[Request]]:
        return [ticket for ticket in self.tickets if ticket.stage is Stage.WAITING]

    def granted(self) -> list[Ticket[Request]]:
        return [ticket for ticket in self.tickets if ticket.stage is Stage.GRANTED]

    # ── what always holds ──────────────────────────────────────────────────────────────────────

    @invariant()
    def leases_are_what_is_in_flight(self) -> None:
        granted = self.granted()
        assert sum(each.in_flight for each in self.fleet) == len(granted) == self.admission.in_flight <= 7
        assert all(each.in_flight >= 0 for each in self.fleet)
        of_keys = Counter(ticket.key for ticket in granted)
        for key in ("a", "b"):
            assert of_keys[key] == self.admission.in_flight_of(key) <= 4

    @invariant()
    def nothing_is_leased_at_a_dead_candidate(self) -> None:
        assert not any(each.in_flight for each in self.fleet if not each.is_alive)
        assert all(ticket.owner.lease is not None for ticket in self.granted())
        assert all(ticket.owner.lease is None for ticket in self.waiting())

    @invariant()
    def nobody_waits_while_a_place_is_free_that_could_serve_him(self) -> None:
        is_free = free_for(self.fleet, serves)
        of_keys = Counter(ticket.key for ticket in self.granted())
        for ticket in self.waiting():
            key_has_room = ticket.key is None or of_keys[ticket.key] < 4
            assert not (len(self.granted()) < 7 and key_has_room and is_free(ticket.need))

    @invariant()
    def the_books_of_the_queue_are_right(self) -> None:
        waiting = self.waiting()
        assert self.admission.waiting == len(waiting)
        for priority in Priority:
            assert self.admission.waiting_of(priority) == sum(
                1 for each in waiting if each.priority is priority
            )
        assert self.admission.next_deadline() == min((each.deadline for each in waiting), default=None)
        # One that comes back after its deadline waits for the next look at the clock.
        assert all(each.deadline > self.now or each.owner.was_served for each in waiting)

    def teardown(self) -> None:
        """Everything is released after any sequence."""
        for ticket in list(self.tickets):
            self.give_back(ticket)
            self.admission.release(ticket, self.now)
        assert (self.admission.in_flight, self.admission.waiting) == (0, 0)
        assert self.admission.next_deadline() is None
        assert not any(each.in_flight for each in self.fleet)
        assert not self.admission._per_key
        queue = self.admission._queue
        assert not any([queue._per_key, queue.tickets, queue._held, *queue._rings.values()])


TestRouting = Routing.TestCase
TestRouting.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
