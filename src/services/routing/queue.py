"""The waiting queue in front of the balancer: who is next when a place at a candidate becomes free. Pure.

1. Classes: interactive before batch. Where batch requests were passed over `batch_after` times in a row by places that
   could have served them, the next such place is theirs: they get one in `batch_after + 1`, and cannot starve.
2. Keys: within a class they take turns (`ring.py`). A turn counts in every ring that the same place could have served,
   so that who asks for many models has no more turns than who asks for one.
3. Within a key and a class the oldest request that the place can serve is next.

Requests are kept by what can serve them (their `need`), so that one model without a host holds up nobody else, and a
free place costs one question for each need that is waited for, however many wait. Entering, leaving and being next
cost the same for any number of waiting requests; their deadlines are a heap, in which what has left stays until it
is half of it.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter, itemgetter
from typing import Generic

from vastproxy.services.routing.drain import DrainRate, retry_after_s
from vastproxy.services.routing.ring import KeyRing
from vastproxy.services.routing.ticket import (
    GRANTED,
    OVER,
    WAITING,
    ClassLimits,
    Priority,
    Reason,
    Refusal,
    T,
    Ticket,
)

#: Whether a place is free that could serve this need.
IsFree = Callable[[Hashable], bool]

#: Told to who is sent away before anything is known about how fast requests are served.
UNKNOWN_RETRY_S = 5
#: The longest that anybody is told: what is true a minute from now nobody knows.
MAX_RETRY_S = 60
#: Needs whose drain rate is remembered; the one that was longest without a waiting request is forgotten first.
_MAX_RATES = 256
_DEADLINES_SLACK = 64
_TURN, _NUMBER = itemgetter(0), attrgetter("number")


class WaitingQueue(Generic[T]):
    """See the module. `now` in the arguments never goes back."""

    def __init__(self, limits: Mapping[Priority, ClassLimits], *, batch_after: int = 9) -> None:
        if batch_after < 1:
            raise ValueError(f"batch_after must be at least 1, not {batch_after}")
        self._limits = {priority: limits[priority] for priority in Priority}
        self._batch_after = batch_after
        self._rings: dict[Priority, dict[Hashable, KeyRing[T]]] = {priority: {} for priority in Priority}
        self._waiting = dict.fromkeys(Priority, 0)
        self._per_key: dict[tuple[Priority, Hashable], int] = {}
        self._held: set[Hashable] = set()
        self._rates: OrderedDict[Hashable, DrainRate] = OrderedDict()
        self.tickets: dict[int, Ticket[T]] = {}
        """Those that wait, by their numbers. For looking at."""
        self._deadlines: list[tuple[float, int]] = []
        self.number = 0
        """Of the last request: they are numbered as they come, and whoever takes a number adds one."""
        self._turn = 0

    def __len__(self) -> int:
        return len(self.tickets)

    def waiting(self, priority: Priority) -> int:
        """Requests of this class that wait."""
        return self._waiting[priority]

    def has_ready(self, need: Hashable) -> bool:
        """Does a request wait that a place for this need could be given to?"""
        if not self.tickets:
            return False  # as nearly always
        return any(need in rings and rings[need].is_ready for rings in self._rings.values())

    def ticket(
        self,
        number: int,
        need: Hashable,
        key: Hashable,
        priority: Priority,
        owner: T,
        now: float,
        max_wait_s: float | None = None,
    ) -> Ticket[T]:
        """A ticket, for `enter`. `max_wait_s`: if that is shorter than what its class may wait."""
        longest_s = self._limits[priority].max_wait_s
        wait_s = longest_s if max_wait_s is None else min(max_wait_s, longest_s)
        return Ticket(number, need, key, priority, owner, now, now + wait_s)

    def enter(self, ticket: Ticket[T], now: float) -> Ticket[T] | Refusal:
        """Let it wait; or say why it cannot. Where nobody is told apart (key None) only the class's limit counts."""
        limits, place = self._limits[ticket.priority], (ticket.priority, ticket.key)
        if self._waiting[ticket.priority] >= limits.max_waiting:
            return self._refusal(ticket, Reason.QUEUE_FULL, now)
        if ticket.key is not None and self._per_key.get(place, 0) >= limits.max_waiting_per_key:
            return self._refusal(ticket, Reason.KEY_WAITING, now)
        self._add(ticket, now)
        return ticket

    def again(self, ticket: Ticket[T], now: float) -> None:
        """One that was served already waits once more, before the others of its key, with its old deadline. No limit
        sends it away: those who come back are fewer than were in flight."""
        self._add(ticket, now, again=True)

    def leave(self, ticket: Ticket[T], now: float) -> None:
        """It waits no longer, whyever. One that does not wait is left as it is."""
        if ticket.stage is WAITING:
            self._remove(ticket, now)
            ticket.stage = OVER

    def next(self, is_free: IsFree, now: float) -> Ticket[T] | None:
        """The request to be served now, which waits no longer; None when no free place is of use to anybody."""
        rings = self._choose(self._free_rings(is_free))
        if not rings:
            return None
        key = min((ring.head for ring in rings), key=_TURN)[1]
        ticket = min((found for ring in rings if (found := ring.oldest(key)) is not None), key=_NUMBER)
        self._turn += 1
        for ring in rings:
            ring.served(key, self._turn)
        self._rates[ticket.need].granted(now)
        self._remove(ticket, now)
        ticket.stage = GRANTED
        return ticket

    def expired(self, now: float) -> list[tuple[Ticket[T], Refusal]]:
        """Take out those whose wait is over, with what they are to be told."""
        over = []
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            ticket = self.tickets[self._deadlines[0][1]]
            over.append((ticket, self._refusal(ticket, Reason.WAITED, now)))
            self.leave(ticket, now)
        return over

    def next_deadline(self) -> float | None:
        """When the first wait is over; None when nobody waits."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][1] not in self.tickets:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def hold(self, key: Hashable) -> None:
        """This key has all it may have: pass its requests over."""
        if key not in self._held:
            self._held.add(key)
            for ring in self._all_rings():
                ring.hold(key)

    def let_go(self, key: Hashable) -> None:
        """This key may be served again."""
        if key in self._held:
            self._held.discard(key)
            self._turn += 1
            for ring in self._all_rings():
                ring.let_go(key, self._turn)

    def _all_rings(self) -> list[KeyRing[T]]:
        return [ring for rings in self._rings.values() for ring in rings.values()]

    def _free_rings(self, is_free: IsFree) -> tuple[list[KeyRing[T]], list[KeyRing[T]]]:
        """The rings that a free place is of use to, by class. Each need is asked about once."""
        interactive, batch = self._rings[Priority.INTERACTIVE], self._rings[Priority.BATCH]
        found: tuple[list[KeyRing[T]], list[KeyRing[T]]] = ([], [])
        for need in interactive if not batch else batch if not interactive else interactive | batch:
            ready = [rings.get(need) for rings in (interactive, batch)]
            if any(ring is not None and ring.is_ready for ring in ready) and is_free(need):
                for ring, free in zip(ready, found, strict=True):
                    if ring is not None and ring.is_ready:
                        free.append(ring)
        return found

    def _choose(self, free: tuple[list[KeyRing[T]], list[KeyRing[T]]]) -> list[KeyRing[T]]:
        """Rings of the class whose turn it is."""
        interactive, batch = free
        if not (interactive and batch):
            for ring in batch:
                ring.passed = 0
            return interactive or batch
        is_due = max(ring.passed for ring in batch) >= self._batch_after
        for ring in batch:
            ring.passed = 0 if is_due else ring.passed + 1
        return batch if is_due else interactive

    def _add(self, ticket: Ticket[T], now: float, *, again: bool = False) -> None:
        rings, place = self._rings[ticket.priority], (ticket.priority, ticket.key)
        if ticket.need not in rings:
            rings[ticket.need] = KeyRing()
        self._turn += 1
        held = ticket.key in self._held
        rings[ticket.need].add(ticket, self._turn, held=held, again=again)
        self._per_key[place] = self._per_key.get(place, 0) + 1
        self._waiting[ticket.priority] += 1
        ticket.stage = WAITING
        self._rate(ticket.need).begin(now)
        self.tickets[ticket.number] = ticket
        heapq.heappush(self._deadlines, (ticket.deadline, ticket.number))

    def _remove(self, ticket: Ticket[T], now: float) -> None:
        rings, place = self._rings[ticket.priority], (ticket.priority, ticket.key)
        ring = rings[ticket.need]
        ring.remove(ticket)
        if not ring.waiting:
            del rings[ticket.need]
            if not any(ticket.need in others for others in self._rings.values()):
                self._rates[ticket.need].end(now)
        self._waiting[ticket.priority] -= 1
        self._per_key[place] -= 1
        if not self._per_key[place]:
            del self._per_key[place]
        del self.tickets[ticket.number]
        if len(self._deadlines) > 2 * len(self) + _DEADLINES_SLACK:
            # Sorted is a heap, too.
            self._deadlines = sorted((each.deadline, number) for number, each in self.tickets.items())

    def _rate(self, need: Hashable) -> DrainRate:
        rate = self._rates.get(need)
        if rate is None:
            rate = self._rates[need] = DrainRate()
            for old in list(self._rates)[: max(0, len(self._rates) - _MAX_RATES)]:
                if not any(old in rings for rings in self._rings.values()):
                    del self._rates[old]
        self._rates.move_to_end(need)
        return rate

    def _refusal(self, ticket: Ticket[T], reason: Reason, now: float) -> Refusal:
        """What a request is told that does not wait, or not any longer. One whose key is held is told of that."""
        if ticket.key in self._held:
            reason = Reason.KEY_IN_FLIGHT
        rate = self._rates.get(ticket.need)
        per_s = rate.per_s(now) if rate is not None else None
        return Refusal(
            reason,
            retry_after_s(self._ahead(ticket, reason), per_s, unknown_s=UNKNOWN_RETRY_S, max_s=MAX_RETRY_S),
        )

    def _ahead(self, ticket: Ticket[T], reason: Reason) -> int:
        """Requests that would be served before one that came now in its place."""
        before = [rings for priority, rings in self._rings.items() if priority <= ticket.priority]
        rings = [found for each in before if (found := each.get(ticket.need)) is not None]
        total = sum(ring.waiting for ring in rings)
        if reason.status != 429:
            return total
        # Its key has every n-th turn; more than all can never be before it.
        return min(total, sum(ring.waiting_of(ticket.key) * ring.keys for ring in rings))
