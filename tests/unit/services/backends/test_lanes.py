"""How many SSH connections are worth having."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.lanes import change

BUSY = st.lists(st.integers(0, 300), min_size=1, max_size=8)


def test_one_more_when_all_are_full_and_one_less_when_the_rest_would_be_half_empty() -> None:
    assert change([64], is_queueing=False, per_connection=64, most=4) == 1
    assert change([63], is_queueing=False, per_connection=64, most=4) == 0
    assert change([64] * 4, is_queueing=False, per_connection=64, most=4) == 0
    assert change([20, 12], is_queueing=False, per_connection=64, most=4) == -1
    assert change([40, 24], is_queueing=False, per_connection=64, most=4) == 0


def test_one_more_where_what_is_sent_waits_and_none_less_while_it_does() -> None:
    assert change([2], is_queueing=True, per_connection=64, most=4) == 1
    assert change([1], is_queueing=True, per_connection=64, most=4) == 0
    assert change([2, 1, 1, 1], is_queueing=True, per_connection=64, most=4) == 0
    assert change([1, 0], is_queueing=True, per_connection=64, most=4) == 0


def test_none_is_given_up_while_a_queue_is_remembered() -> None:
    """What made one queue would queue on fewer again: opening and closing must not take turns."""
    assert change([20, 4], is_queueing=False, has_queued=True, per_connection=64, most=4) == 0
    assert change([20, 4], is_queueing=False, has_queued=False, per_connection=64, most=4) == -1
    assert change([40, 4], is_queueing=True, has_queued=True, per_connection=64, most=4) == 1


@given(BUSY, st.integers(1, 100), st.integers(1, 8))
def test_it_settles(busy: list[int], per_connection: int, most: int) -> None:
    """With the load as it is, a change is never followed by its opposite, and the bounds hold."""
    total = sum(busy)
    step = change(busy, is_queueing=False, per_connection=per_connection, most=most)
    count = len(busy) + step
    assert step <= 0 or count <= most
    assert count >= 1
    spread = [total // count + (1 if place < total % count else 0) for place in range(count)]
    if step:
        assert change(spread, is_queueing=False, per_connection=per_connection, most=most) != -step
