"""When something that failed is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.breaker import Breaker


def make() -> Breaker:
    return Breaker(pause_s=1.0, max_pause_s=8.0, trial_s=0.5)


def test_what_works_may_always_be_tried() -> None:
    breaker = make()
    assert all(breaker.may_try(0.0) for _ in range(3))
    assert not breaker.worked()


def test_after_a_failure_there_is_a_pause_and_then_one_trial() -> None:
    breaker = make()
    assert breaker.failed(10.0), "the first failure is news"
    assert not breaker.may_try(10.9)
    assert breaker.may_try(11.0)
    assert not breaker.may_try(11.4), "others wait for the trial"
    assert breaker.may_try(11.5), "a trial that nobody reported on does not count"


def test_pauses_double_up_to_a_limit_and_one_success_ends_it() -> None:
    breaker, now, pauses = make(), 0.0, []
    for _ in range(6):
        breaker.failed(now)
        until = now
        while not breaker.may_try(until):
            until += 0.25
        pauses.append(until - now)
        now = until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert breaker.worked(), "that is news"
    assert breaker.is_closed
    assert breaker.failed(now)
    assert breaker.may_try(now + 1.0), "it begins from the start"


@given(st.lists(st.sampled_from(["try", "fail", "work"]), max_size=200))
def test_it_is_never_closed_for_longer_than_the_longest_pause(acts: list[str]) -> None:
    breaker, now = make(), 0.0
    for act in acts:
        now += 0.1
        if act == "fail":
            breaker.failed(now)
        elif act == "work":
            breaker.worked()
        else:
            breaker.may_try(now)
    assert breaker.may_try(now + 8.0)
