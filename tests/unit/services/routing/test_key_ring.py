"""Keys take turns."""

import pytest

from vastproxy.services.routing.ring import KeyRing
from vastproxy.services.routing.ticket import Priority, Ticket


class Turns:
    """A ring with a turn counter and a ticket counter."""

    def __init__(self) -> None:
        self.ring: KeyRing[None] = KeyRing()
        self.turn = 0

    def add(self, key: str, *, held: bool = False) -> Ticket[None]:
        self.turn += 1
        ticket = Ticket(self.turn, "m", key, Priority.INTERACTIVE, None, 0.0, 1.0)
        self.ring.add(ticket, self.turn, held=held)
        return ticket

    def serve(self) -> Ticket[None]:
        _, key = self.ring.head
        ticket = self.ring.oldest(key)
        assert ticket is not None
        self.turn += 1
        self.ring.served(key, self.turn)
        self.ring.remove(ticket)
        return ticket


def test_keys_take_turns_and_each_is_first_come_first_served() -> None:
    turns = Turns()
    tickets = [turns.add(key) for key in "aaabbc"]
    assert [turns.serve() for _ in tickets] == [tickets[n] for n in (0, 3, 5, 1, 4, 2)]
    assert not turns.ring.is_ready
    assert turns.ring.waiting == 0


def test_who_leaves_takes_his_line_with_him_when_he_was_the_last() -> None:
    turns = Turns()
    first, second = turns.add("a"), turns.add("a")
    turns.ring.remove(first)
    assert (turns.ring.keys, turns.ring.waiting_of("a"), turns.ring.oldest("a")) == (1, 1, second)
    turns.ring.remove(second)
    assert (turns.ring.keys, turns.ring.waiting_of("a"), turns.ring.oldest("a")) == (0, 0, None)


def test_those_who_come_back_stand_where_they_stood_before_the_others_of_their_key() -> None:
    turns = Turns()
    tickets = [turns.add("a") for _ in range(4)]
    for ticket in tickets[:3]:
        assert turns.serve() is ticket
    for ticket in (tickets[1], tickets[0], tickets[2]):
        turns.ring.add(ticket, turns.turn, held=False, again=True)
    assert [turns.serve() for _ in tickets] == tickets


def test_a_held_key_is_passed_over_and_comes_back_at_the_end() -> None:
    turns = Turns()
    a, b = turns.add("a"), turns.add("b")
    turns.ring.hold("a")
    assert turns.ring.head[1] == "b"
    assert turns.ring.oldest("a") is None
    assert turns.ring.waiting_of("a") == 1
    turns.turn += 1
    turns.ring.let_go("a", turns.turn)
    assert [turns.serve(), turns.serve()] == [b, a]


def test_nobody_is_ready_where_all_are_held() -> None:
    turns = Turns()
    ticket = turns.add("a", held=True)
    turns.ring.served("a", 5)
    turns.ring.hold("a")
    turns.ring.hold("nobody")
    turns.ring.let_go("nobody", 6)
    assert not turns.ring.is_ready
    assert turns.ring.waiting == 1
    turns.ring.remove(ticket)
    assert turns.ring.keys == 0


def test_what_is_not_in_it_cannot_be_taken_out() -> None:
    turns = Turns()
    ticket = turns.add("a")
    turns.ring.remove(ticket)
    with pytest.raises(AssertionError):
        turns.ring.remove(ticket)
