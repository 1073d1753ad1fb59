"""How many SSH connections are worth having."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.lanes import change

BUSY = st.lists(st.integers(0, 300), min_size=1, max_size=8)


def test_one_more_when_all_are_full_and_one_less_when_the_rest_would_be_half_empty() -> None:
    assert change([64], per_connection=64, most=4) == 1
    assert change([63], per_connection=64, most=4) == 0
    assert change([64] * 4, per_connection=64, most=4) == 0
    assert change([20, 12], per_connection=64, most=4) == -1
    assert change([40, 24], per_connection=64, most=4) == 0


@given(BUSY, st.integers(1, 100), st.integers(1, 8))
def test_it_settles(busy: list[int], per_connection: int, most: int) -> None:
    """With the load as it is, a change is never followed by its opposite, and the bounds hold."""
    total = sum(busy)
    step = change(busy, per_connection=per_connection, most=most)
    count = len(busy) + step
    assert step <= 0 or count <= most
    assert count >= 1
    spread = [total // count + (1 if place < total % count else 0) for place in range(count)]
    if step:
        assert change(spread, per_connection=per_connection, most=most) != -step
