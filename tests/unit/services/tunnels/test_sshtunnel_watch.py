"""When a silent connection is asked for a sign of life, and when it is given up."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.tunnels.paramiko_transport import Watch, next_watch


def at(now: float, heard_at: float, asked_at: float | None = None) -> Watch:
    return next_watch(now, heard_at=heard_at, asked_at=asked_at, interval_s=5, count=2)


def test_nothing_is_asked_while_something_was_heard_lately() -> None:
    assert at(103, 100) == Watch(wait_s=2)


def test_silence_is_asked_about_after_one_interval() -> None:
    assert at(105, 100) == Watch(ask=True, wait_s=5)


def test_an_unanswered_question_is_the_end_after_all_intervals() -> None:
    """5 s of silence, and two more intervals: dead after 15 s."""
    assert at(110, 100, 105) == Watch(wait_s=5)
    assert at(114, 100, 105) == Watch(wait_s=1)
    assert at(115, 100, 105) == Watch(is_dead=True)


def test_an_answer_begins_the_wait_anew() -> None:
    assert at(106, 105.1, 105) == Watch(wait_s=105.1 + 5 - 106)
    assert at(111, 105.1, 105) == Watch(ask=True, wait_s=5)


def test_a_process_that_was_stopped_asks_before_it_judges() -> None:
    assert at(10_000, 100) == Watch(ask=True, wait_s=5)


@given(
    start=st.floats(0, 1e6),
    interval_s=st.floats(0.05, 60),
    count=st.integers(1, 5),
    heard_for=st.floats(0, 300),
)
def test_a_dead_peer_is_found_in_bounded_time_and_a_living_one_never(
    start: float, interval_s: float, count: int, heard_for: float
) -> None:
    """While each question is answered nobody is accused; from the last sign of life to the end it takes
    `count` + 1 intervals, and at most one more for the time between two looks."""
    now, heard_at, asked_at = start, start, None
    last_sign = start + heard_for
    for _ in range(100_000):
        watch = next_watch(now, heard_at=heard_at, asked_at=asked_at, interval_s=interval_s, count=count)
        if watch.is_dead:
            break
        if watch.ask:
            asked_at = now
            if now <= last_sign:
                heard_at = now  # the answer
        assert 0 < watch.wait_s <= interval_s
        now += watch.wait_s + 1e-6
    assert watch.is_dead
    silent_s = now - heard_at
    assert (count + 1) * interval_s * 0.999 <= silent_s <= (count + 2) * interval_s + 0.01
    assert heard_at <= last_sign
