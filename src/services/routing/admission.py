"""Who may be begun now, who waits and who is sent away: the caps of candidates, of each API key and of them all. Pure.

Two promises. Never over a cap: a request is granted only where a place is free, the caller leases a candidate in the
same breath, and a cap that shrinks under what runs lets it end. Nobody waits while a place is free that could serve
him: for that, `next` must be called until it says None after every event that may have made a place: a request ended,
a candidate came, came back or was given a larger limit. A request that comes in between does not overtake.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vastproxy.services.routing.queue import IsFree, WaitingQueue
from vastproxy.services.routing.ticket import GRANTED, OVER, ClassLimits, Priority, Refusal, T, Ticket


class Capped(Protocol):
    """Whatever has a number of requests in flight and perhaps a limit on it."""

    @property
    def in_flight(self) -> int: ...
    @property
    def limit(self) -> int | None: ...


C = TypeVar("C", bound=Capped)

#: A client that watches gives up after about a minute; a host that is replaced may take ten.
INTERACTIVE = ClassLimits(max_waiting=1_000, max_waiting_per_key=250, max_wait_s=60.0)
BATCH = ClassLimits(max_waiting=1_000, max_waiting_per_key=1_000, max_wait_s=600.0)


def limit_of(told: int | None, configured: int | None) -> int | None:
    """The in-flight cap of a candidate. `told`: what its engine takes on at a time, as it says or its arguments do
    (llama.cpp's slots, Ollama's parallel, SGLang's and vLLM's most running). `configured`: the operator's, which
    stands in where the engine does not tell and lowers what it does. None: no cap is known."""
    known = [limit for limit in (told, configured) if limit is not None and limit > 0]
    return min(known, default=None)


def has_room(candidate: Capped) -> bool:
    """Is a place free at it?"""
    limit = candidate.limit
    return limit is None or candidate.in_flight < limit


def free_for(candidates: Iterable[C], serves: Callable[[C, Hashable], bool]) -> IsFree:
    """Whether one of these candidates that have room now serves a need. They must be usable, each of them."""
    free = [candidate for candidate in candidates if has_room(candidate)]
    return lambda need: any(serves(candidate, need) for candidate in free)


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What may be in flight through this proxy, and what may wait. None: no limit."""

    max_in_flight: int | None = None
    max_in_flight_per_key: int | None = None
    interactive: ClassLimits = INTERACTIVE
    batch: ClassLimits = BATCH
    batch_after: int = 9
    """One place goes to a batch request after so many that went to interactive ones while it waited."""

    def __post_init__(self) -> None:
        for cap in (self.max_in_flight, self.max_in_flight_per_key):
            if cap is not None and cap < 1:
                raise ValueError(f"a limit of requests in flight is at least 1, not {cap}")


class Admission(Generic[T]):
    """The books: what is in flight, by key and in all, and who waits. `now` in the arguments never goes back."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        classes = {Priority.INTERACTIVE: limits.interactive, Priority.BATCH: limits.batch}
        self._queue: WaitingQueue[T] = WaitingQueue(classes, batch_after=limits.batch_after)
        self.waiting_tickets = self._queue.tickets
        """Those that wait, by number: an empty one says at the least cost that nobody does."""
        self._per_key: dict[Hashable, int] = {}
        self.in_flight = 0
        """Tickets that are granted and not yet over."""

    def __repr__(self) -> str:
        return f"<Admission in_flight={self.in_flight} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def waiting_of(self, priority: Priority) -> int:
        """Requests of this class that wait."""
        return self._queue.waiting(priority)

    def in_flight_of(self, key: Hashable) -> int:
        """Requests of this key in flight. Where nobody is told apart (None) they are not counted."""
        return self._per_key.get(key, 0)

    def ask(
        self,
        need: Hashable,
        *,
        key: Hashable,
        priority: Priority,
        owner: T,
        is_free: IsFree,
        now: float,
        max_wait_s: float | None = None,
    ) -> Ticket[T] | Refusal:
        """A ticket that is GRANTED or WAITING, or why there is none. Hand it back with `release`, whatever comes.

        `max_wait_s` shortens the wait of its class, for example where no candidate is even expected.
        """
        if self.may_begin(need, key) and is_free(need):
            ticket = self._queue.ticket(self.begin(key), need, key, priority, owner, now, max_wait_s)
            ticket.stage = GRANTED
            return ticket
        return self.wait(need, key=key, priority=priority, owner=owner, now=now, max_wait_s=max_wait_s)

    def may_begin(self, need: Hashable, key: Hashable) -> bool:
        """Is a place at a candidate all that a request needs to begin? Then `begin` it, if there is one."""
        return not (self._is_full() or self._has_all(key) or self._queue.has_ready(need))

    def begin(self, key: Hashable) -> int:
        """A request that never waited begins; it counts as in flight until `end`. Its number among all that came."""
        self.in_flight += 1
        if key is not None:
            self._count(key)
        queue = self._queue
        queue.number += 1
        return queue.number

    def end(self, key: Hashable) -> None:
        """A request that has begun without a ticket is over. To be called once."""
        self.in_flight -= 1
        if key is not None:
            self._uncount(key)

    def wait(
        self,
        need: Hashable,
        *,
        key: Hashable,
        priority: Priority,
        owner: T,
        now: float,
        max_wait_s: float | None = None,
    ) -> Ticket[T] | Refusal:
        """A ticket that is WAITING, or why there is none."""
        self._queue.number += 1
        ticket = self._queue.ticket(self._queue.number, need, key, priority, owner, now, max_wait_s)
        return self._queue.enter(ticket, now)

    def turn_back(
        self, number: int, need: Hashable, *, key: Hashable, priority: Priority, owner: T, now: float
    ) -> Ticket[T]:
        """A request that has begun without a ticket has to wait after all, as in `again`, and gets one."""
        ticket = self._queue.ticket(number, need, key, priority, owner, now)
        ticket.stage = GRANTED
        self.again(ticket, now)
        return ticket

    def next(self, is_free: IsFree, now: float) -> Ticket[T] | None:
        """The waiting request whose turn it is, GRANTED now: lease a candidate for it before anything else is asked."""
        if self._is_full():
            return None
        ticket = self._queue.next(is_free, now)
        if ticket is not None:
            self.in_flight += 1
            if ticket.key is not None:
                self._count(ticket.key)
        return ticket

    def again(self, ticket: Ticket[T], now: float) -> None:
        """A granted request has to wait once more: its candidate failed it, and no other has room. It goes before the
        others of its key, with the deadline that it had."""
        assert ticket.stage is GRANTED
        self.end(ticket.key)
        self._queue.again(ticket, now)

    def release(self, ticket: Ticket[T], now: float) -> None:
        """The request is over, or its client left the queue. More than once does nothing."""
        if ticket.stage is GRANTED:
            ticket.stage = OVER
            self.end(ticket.key)
        else:
            self._queue.leave(ticket, now)

    def expired(self, now: float) -> list[tuple[Ticket[T], Refusal]]:
        """Those whose wait is over, OVER now, with what they are to be told."""
        return self._queue.expired(now)

    def next_deadline(self) -> float | None:
        """When to ask for the expired ones next; None when nobody waits."""
        return self._queue.next_deadline()

    def _is_full(self) -> bool:
        most = self._limits.max_in_flight
        return most is not None and self.in_flight >= most

    def _has_all(self, key: Hashable) -> bool:
        """Has this key as many in flight as it may?"""
        most = self._limits.max_in_flight_per_key
        return most is not None and self._per_key.get(key, 0) >= most

    def _count(self, key: Hashable) -> None:
        self._per_key[key] = self._per_key.get(key, 0) + 1
        if self._has_all(key):
            self._queue.hold(key)

    def _uncount(self, key: Hashable) -> None:
        self._per_key[key] -= 1
        if not self._per_key[key]:
            del self._per_key[key]
        self._queue.let_go(key)
