"""A window looks back as far as it should, and holds no more than it needs for that."""

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.live.window import Window


def test_it_looks_back_to_the_last_sample_before_its_span() -> None:
    window = Window(10.0, 0.0, 0, limit=64)
    for second in range(1, 30):
        window.add(float(second), second)
    assert window.oldest == (19.0, 19)
    assert window.newest_at == 29.0
    assert len(window) == 11


def test_what_is_younger_than_its_span_looks_back_to_its_beginning() -> None:
    window = Window(300.0, 5.0, "first", limit=8)
    assert window.oldest == (5.0, "first")
    window.add(6.0, "second")
    assert window.oldest == (5.0, "first")


@given(st.lists(st.floats(0.01, 30.0), max_size=60), st.floats(0.1, 50.0), st.integers(1, 20))
def test_never_shorter_than_asked_unless_it_is_full_or_young(
    steps: list[float], span_s: float, limit: int
) -> None:
    window = Window(span_s, 0.0, 0, limit=limit)
    now = 0.0
    for number, step in enumerate(steps, start=1):
        now += step
        window.add(now, number)
        at, value = window.oldest
        assert len(window) <= limit
        assert window.newest_at == now
        assert now - at >= span_s or value == 0 or len(window) == limit
