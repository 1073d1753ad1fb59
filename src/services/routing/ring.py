"""Requests of one class that wait for the same candidates: a line for each API key, and the keys in a ring.

The key at the ring's head is next; served, it goes to the end. A key that had no line goes to the end too, so that
leaving and coming back gains nothing, and nothing needs to be remembered of a key that does not wait. Every place in
the ring has the number of the turn in which it was taken, ascending along the ring: rings whose requests the same
candidate can serve are compared by it.

Each method costs the same for any number of keys and requests, but for those that come back.
"""

from collections import OrderedDict
from collections.abc import Hashable
from itertools import takewhile
from typing import Generic

from vastproxy.services.routing.ticket import T, Ticket


class _Line(Generic[T]):
    """The requests of one key, the oldest first."""

    __slots__ = ("tickets", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.tickets: OrderedDict[Ticket[T], None] = OrderedDict()


class KeyRing(Generic[T]):
    """See the module. `turn` in the arguments is a number above all that were given before."""

    __slots__ = ("_held", "_lines", "passed", "waiting")

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, _Line[T]] = OrderedDict()
        self._held: dict[Hashable, _Line[T]] = {}
        self.waiting = 0
        """Requests in it."""
        self.passed = 0
        """Times in a row that a request of a class before this one was preferred to these."""

    @property
    def is_ready(self) -> bool:
        """Is there a request that a free place could be given to?"""
        return bool(self._lines)

    @property
    def keys(self) -> int:
        """Keys with a line."""
        return len(self._lines) + len(self._held)

    @property
    def head(self) -> tuple[int, Hashable]:
        """The turn and the key of the ring's head. There must be one."""
        key, line = next(iter(self._lines.items()))
        return line.turn, key

    def waiting_of(self, key: Hashable) -> int:
        """Requests of this key."""
        line = self._line(key)
        return len(line.tickets) if line is not None else 0

    def oldest(self, key: Hashable) -> Ticket[T] | None:
        """The request of this key that is next, unless it has none or is held."""
        line = self._lines.get(key)
        return next(iter(line.tickets)) if line is not None else None

    def add(self, ticket: Ticket[T], turn: int, *, held: bool, again: bool = False) -> None:
        """Let it wait, as the last of its key, or where its number belongs if it has waited before (`again`), which
        costs a step for each that came back before it. `held`: is its key held?"""
        line = self._line(ticket.key)
        if line is None:
            line = _Line(turn)
            (self._held if held else self._lines)[ticket.key] = line
        older = takewhile(lambda other: other.number < ticket.number, line.tickets) if again else ()
        in_front = [ticket, *reversed(list(older))] if again else []
        line.tickets[ticket] = None
        for each in in_front:
            line.tickets.move_to_end(each, last=False)
        self.waiting += 1

    def remove(self, ticket: Ticket[T]) -> None:
        """It waits no longer. It must be in here."""
        line = self._line(ticket.key)
        assert line is not None
        del line.tickets[ticket]
        self.waiting -= 1
        if not line.tickets:
            (self._lines if ticket.key in self._lines else self._held).pop(ticket.key)

    def served(self, key: Hashable, turn: int) -> None:
        """This key has had its turn, here or in another ring."""
        line = self._lines.get(key)
        if line is not None:
            line.turn = turn
            self._lines.move_to_end(key)

    def hold(self, key: Hashable) -> None:
        """Pass this key over until it is let go."""
        line = self._lines.pop(key, None)
        if line is not None:
            self._held[key] = line

    def let_go(self, key: Hashable, turn: int) -> None:
        """The key may be served again, after those that may now."""
        line = self._held.pop(key, None)
        if line is not None:
            line.turn = turn
            self._lines[key] = line

    def _line(self, key: Hashable) -> _Line[T] | None:
        return self._lines.get(key) or self._held.get(key)
