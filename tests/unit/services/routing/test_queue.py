"""Who is next: classes, keys, and first come, first served; at a cost that does not grow with the queue."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.queue import MAX_RETRY_S, UNKNOWN_RETRY_S, WaitingQueue
from vastproxy.services.routing.ticket import ClassLimits, Priority, Reason, Refusal, Stage, Ticket

INTERACTIVE, BATCH = Priority
MANY = ClassLimits(max_waiting=10**6, max_waiting_per_key=10**6, max_wait_s=60.0)


def queue_of(
    interactive: ClassLimits = MANY, batch: ClassLimits = MANY, batch_after: int = 9
) -> WaitingQueue[str]:
    return WaitingQueue({INTERACTIVE: interactive, BATCH: batch}, batch_after=batch_after)


def next_number(queue: WaitingQueue[str]) -> int:
    queue.number += 1
    return queue.number


def enter(
    queue: WaitingQueue[str],
    key: Hashable = "a",
    need: Hashable = "m",
    priority: Priority = INTERACTIVE,
    now: float = 0.0,
    max_wait_s: float | None = None,
) -> Ticket[str]:
    entered = queue.enter(
        queue.ticket(next_number(queue), need, key, priority, "owner", now, max_wait_s), now
    )
    assert isinstance(entered, Ticket)
    return entered


def refused(
    queue: WaitingQueue[str], key: Hashable = "a", priority: Priority = INTERACTIVE, now: float = 0.0
) -> Refusal:
    answer = queue.enter(queue.ticket(next_number(queue), "m", key, priority, "owner", now), now)
    assert isinstance(answer, Refusal)
    return answer


def anything(_: Hashable) -> bool:
    return True


def only(*needs: Hashable) -> Callable[[Hashable], bool]:
    return lambda need: need in needs


def drain(queue: WaitingQueue[str], now: float = 0.0) -> list[Ticket[str]]:
    served = []
    while (ticket := queue.next(anything, now)) is not None:
        served.append(ticket)
    return served


def test_an_empty_queue_has_nobody() -> None:
    queue = queue_of()
    assert (queue.next(anything, 0.0), queue.next_deadline(), queue.expired(9.9), len(queue)) == (
        None,
        None,
        [],
        0,
    )


def test_keys_take_turns_and_within_a_key_the_first_is_first() -> None:
    queue = queue_of()
    tickets = [enter(queue, key) for key in "aaaab"]
    assert drain(queue) == [tickets[n] for n in (0, 4, 1, 2, 3)]
    assert all(ticket.stage is Stage.GRANTED for ticket in tickets)


def test_one_model_without_a_host_holds_up_nobody_else() -> None:
    queue = queue_of()
    stuck = [enter(queue, "a", "gone") for _ in range(50)]
    ticket = enter(queue, "a", "m")
    assert queue.next(only("m"), 0.0) is ticket
    assert queue.next(only("m"), 0.0) is None
    assert queue.next(only("gone"), 0.0) is stuck[0]


def test_a_key_is_served_oldest_first_over_all_that_the_place_can_serve() -> None:
    queue = queue_of()
    tickets = [enter(queue, "a", need) for need in ("y", "x", None, "y", "x")]
    assert drain(queue) == tickets


def test_interactive_goes_before_batch() -> None:
    queue = queue_of()
    batch = enter(queue, priority=BATCH)
    interactive = [enter(queue) for _ in range(5)]
    assert drain(queue) == [*interactive, batch]


def test_batch_gets_every_tenth_place_where_interactive_never_ends() -> None:
    queue = queue_of()
    for _ in range(200):
        enter(queue)
        enter(queue, priority=BATCH)
    served = [queue.next(anything, 0.0) for _ in range(100)]
    at = [n for n, ticket in enumerate(served) if ticket is not None and ticket.priority is BATCH]
    assert at == list(range(9, 100, 10))


def test_batch_of_a_model_does_not_starve_because_another_model_takes_the_batch_places() -> None:
    """Places for x alone and for both alternate, in whatever rhythm."""
    queue = queue_of(batch_after=2)
    for _ in range(300):
        for need in ("x", "y"):
            enter(queue, "a", need)
            enter(queue, "a" if need == "x" else "b", need, BATCH)
    rhythm = [only("x"), only("x"), anything] * 50
    served = [queue.next(is_free, 0.0) for is_free in rhythm]
    assert sum(1 for ticket in served if ticket and ticket.priority is BATCH and ticket.need == "x") >= 20


def test_a_place_that_is_of_no_use_to_batch_does_not_count_as_passing_it_over() -> None:
    queue = queue_of(batch_after=2)
    enter(queue, need="x", priority=BATCH)
    tickets = [enter(queue, need="y") for _ in range(10)] + [enter(queue, need="x")]
    served = [queue.next(only("y"), 0.0) for _ in range(10)] + [queue.next(only("x"), 0.0)]
    assert served == tickets


def test_a_batch_request_that_was_served_anyway_is_not_owed_another_place() -> None:
    queue = queue_of(batch_after=2)
    batch = [enter(queue, priority=BATCH) for _ in range(2)]
    first = [enter(queue) for _ in range(2)]
    served = [queue.next(anything, 0.0) for _ in range(3)]
    interactive = enter(queue)
    assert [*served, queue.next(anything, 0.0)] == [*first, batch[0], interactive]


KEYS = ("a", "b", "c")


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from("xyz")), max_size=60),
    st.integers(1, 60),
)
def test_keys_that_always_wait_are_served_equally_often(
    arrivals: Sequence[tuple[str, str]], places: int
) -> None:
    """However many requests a key has, for however many models."""
    queue, served = queue_of(), Counter(dict.fromkeys(KEYS, 0))
    for key in KEYS:
        for _ in range(places):
            enter(queue, key, "x")
    feed = iter(arrivals)
    for _ in range(places):
        for arrival in [next(feed, None)] * 2:
            if arrival is not None:
                enter(queue, *arrival)
        ticket = queue.next(anything, 0.0)
        assert ticket is not None
        served[str(ticket.key)] += 1
        assert max(served.values()) - min(served.values()) <= 1


@given(st.lists(st.sampled_from(["x", "y", "both"]), min_size=1, max_size=80))
def test_a_key_that_waits_has_its_turn_before_any_other_has_two(places: list[str]) -> None:
    """For places that serve what it waits for, whatever other places do in between."""
    queue = queue_of()
    for key in KEYS:
        for need in ("x", "y"):
            for _ in range(len(places)):
                enter(queue, key, need)
    since: dict[tuple[str, str], Counter[str]] = {}
    for place in places:
        needs = ("x", "y") if place == "both" else (place,)
        ticket = queue.next(only(*needs), 0.0)
        assert ticket is not None
        for other in KEYS:
            for need in needs:
                turns = since.setdefault((other, need), Counter())
                if other == ticket.key:
                    turns.clear()
                else:
                    turns[str(ticket.key)] += 1
                    assert turns[str(ticket.key)] <= 2


def test_leaving_and_coming_back_gains_nothing() -> None:
    queue = queue_of()
    others = [enter(queue, "a"), enter(queue, "c")]
    for _ in range(5):
        ticket = enter(queue, "b")
        queue.leave(ticket, 0.0)
    last = enter(queue, "b")
    assert drain(queue) == [*others, last]


def test_who_leaves_is_gone_and_may_leave_again() -> None:
    queue = queue_of()
    first, second = enter(queue), enter(queue)
    for _ in range(3):
        queue.leave(first, 0.0)
    assert (first.stage, len(queue), queue.waiting(INTERACTIVE)) == (Stage.OVER, 1, 1)
    assert drain(queue) == [second]
    queue.leave(second, 0.0)
    assert second.stage is Stage.GRANTED


def test_who_comes_back_goes_first_with_the_deadline_he_had() -> None:
    queue = queue_of()
    tickets = [enter(queue, now=float(n)) for n in range(3)]
    for ticket in tickets[:2]:
        assert queue.next(anything, 5.0) is ticket
    queue.again(tickets[0], 6.0)
    queue.again(tickets[1], 6.0)
    assert queue.next_deadline() == 60.0
    assert drain(queue) == tickets


def test_a_held_key_is_passed_over_whatever_it_asks_for() -> None:
    queue = queue_of()
    held = [enter(queue, "a", "x"), enter(queue, "a", "y", BATCH)]
    other = enter(queue, "b", "x")
    queue.hold("a")
    queue.hold("a")
    held.append(enter(queue, "a", "z"))
    assert not queue.has_ready("z")
    assert drain(queue) == [other]
    queue.let_go("a")
    queue.let_go("a")
    assert queue.has_ready("z")
    assert drain(queue) == [held[0], held[2], held[1]]


def test_each_class_has_its_own_room() -> None:
    queue = queue_of(batch=ClassLimits(max_waiting=2, max_waiting_per_key=9, max_wait_s=60.0))
    enter(queue, "a", priority=BATCH)
    enter(queue, "b", priority=BATCH)
    assert refused(queue, "c", BATCH) == Refusal(Reason.QUEUE_FULL, UNKNOWN_RETRY_S)
    enter(queue, "c")
    assert len(queue) == 3


def test_each_key_has_its_own_bound_where_keys_are_told_apart() -> None:
    limits = ClassLimits(max_waiting=9, max_waiting_per_key=2, max_wait_s=60.0)
    queue = queue_of(limits)
    first = enter(queue)
    enter(queue)
    assert refused(queue).reason is Reason.KEY_WAITING
    enter(queue, "b")
    for _ in range(3):
        enter(queue, None)
    queue.leave(first, 0.0)
    enter(queue)


def test_a_held_key_is_told_of_its_own_limit() -> None:
    queue = queue_of(ClassLimits(max_waiting=1, max_waiting_per_key=1, max_wait_s=5.0))
    queue.hold("a")
    ticket = enter(queue)
    assert refused(queue).reason is Reason.KEY_IN_FLIGHT
    assert refused(queue, "b").reason is Reason.QUEUE_FULL
    assert [(each, told.reason) for each, told in queue.expired(5.0)] == [(ticket, Reason.KEY_IN_FLIGHT)]


def test_waits_end_at_their_deadlines_in_their_order() -> None:
    queue = queue_of(batch=ClassLimits(max_waiting=9, max_waiting_per_key=9, max_wait_s=600.0))
    batch = enter(queue, priority=BATCH)
    late, soon, gone = enter(queue, now=1.0), enter(queue, now=2.0, max_wait_s=10.0), enter(queue)
    long = enter(queue, now=3.0, max_wait_s=1e9)
    queue.leave(gone, 3.0)
    assert queue.next_deadline() == 12.0
    assert queue.expired(11.9) == []
    assert [ticket for ticket, _ in queue.expired(61.0)] == [soon, late]
    assert [ticket for ticket, _ in queue.expired(63.0)] == [long]
    (last,) = queue.expired(600.0)
    assert last == (batch, Refusal(Reason.WAITED, MAX_RETRY_S))
    assert (batch.stage, queue.next_deadline(), len(queue)) == (Stage.OVER, None, 0)


def test_who_is_sent_away_is_told_how_long_those_before_him_will_take() -> None:
    limits = ClassLimits(max_waiting=20, max_waiting_per_key=10, max_wait_s=60.0)
    queue, now = queue_of(limits, limits), 0.0
    for key in "ab":
        for _ in range(10):
            enter(queue, key)
            enter(queue, key, priority=BATCH)
    for _ in range(60):
        now += 0.5
        ticket = queue.next(anything, now)
        assert ticket is not None
        enter(queue, ticket.key, priority=ticket.priority, now=now)
    assert 9 <= refused(queue, "c", now=now).retry_after_s <= 12  # 20 before it, 2 a second
    assert 17 <= refused(queue, "c", BATCH, now=now).retry_after_s <= 23  # 40 before it


def test_a_key_with_too_many_waiting_is_told_how_long_its_own_will_take() -> None:
    queue, now = queue_of(ClassLimits(max_waiting=100, max_waiting_per_key=5, max_wait_s=600.0)), 0.0
    for key in "abcdefgh":
        for _ in range(5):
            enter(queue, key)
    queue.leave(enter(queue, "i"), 0.0)
    for _ in range(60):
        now += 0.5
        ticket = queue.next(anything, now)
        assert ticket is not None
        enter(queue, ticket.key, now=now)
    answer = refused(queue, "a", now=now)
    assert answer.reason is Reason.KEY_WAITING
    assert 18 <= answer.retry_after_s <= 22


def test_what_a_drain_rate_is_remembered_for_is_bounded() -> None:
    queue = queue_of()
    for n in range(2_000):
        queue.leave(enter(queue, need=n), 0.0)
    kept = enter(queue, need="kept")
    for n in range(2_000):
        queue.leave(enter(queue, need=n), 0.0)
    assert len(queue._rates) <= 257
    assert drain(queue) == [kept]


def test_deadlines_of_those_who_left_are_swept() -> None:
    queue = queue_of()
    stays = enter(queue)
    for _ in range(5_000):
        queue.leave(enter(queue, now=1.0), 1.0)
    assert len(queue._deadlines) <= 100
    assert queue.next_deadline() == stays.deadline


def test_a_free_place_asks_once_for_each_need_however_many_wait() -> None:
    queue, asked = queue_of(), []

    def is_free(need: Hashable) -> bool:
        asked.append(need)
        return need == "y"

    for n in range(3_000):
        enter(queue, n % 100, "xyz"[n % 3], BATCH if n % 2 else INTERACTIVE)
    queue.next(is_free, 0.0)
    assert sorted(map(str, asked)) == ["x", "y", "z"]


def test_a_batch_share_without_a_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_after"):
        queue_of(batch_after=0)
