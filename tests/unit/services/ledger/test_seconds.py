"""Seconds of an hour as bits: each second once, however they are told."""

from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.ledgers import HOUR
from vastproxy.services.ledger.seconds import HOUR_S, hour_of, marked, packed, unpacked

moments = st.integers(HOUR, HOUR + 4 * HOUR_S)


@given(moments, st.integers(0, 3 * HOUR_S))
def test_each_second_of_a_span_is_marked_once(first: int, length: int) -> None:
    seconds = set()
    for hour, mask in marked(first, first + length):
        assert hour == hour_of(hour)
        for second in range(HOUR_S):
            if mask >> second & 1:
                assert hour + second not in seconds
                seconds.add(hour + second)
        assert mask < 1 << HOUR_S
    assert seconds == set(range(first, first + length))


@given(st.integers(0, (1 << HOUR_S) - 1))
def test_what_is_stored_is_read_again(mask: int) -> None:
    assert unpacked(packed(mask)) == mask


def test_nothing_stored_is_nothing() -> None:
    assert unpacked(None) == 0
    assert unpacked(b"") == 0
    assert unpacked(b"\xff" * 1000) < 1 << HOUR_S


def test_the_hour_of_a_moment() -> None:
    assert hour_of(HOUR) == HOUR
    assert hour_of(HOUR + 3599.9) == HOUR
    assert hour_of(HOUR + 3600) == HOUR + 3600
