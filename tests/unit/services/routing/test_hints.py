"""Hashes of prompts that say how much two of them have in common, and nothing else."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.hints import BLOCKS, PROMPT_BYTES, Hints
from vastproxy.services.routing.policy import NO_HINT

ENDS = list(itertools.accumulate(BLOCKS))
HINTS = Hints(b"salt")


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_as_many_blocks_are_alike_as_lie_within_the_common_beginning(
    common: int, one: int, other: int
) -> None:
    a = HINTS.hint("m", b"s" * common + b"a" * one, None).prefix
    b = HINTS.hint("m", b"s" * common + b"b" * other, None).prefix
    assert len(a) == sum(end <= common + one for end in ENDS)
    same = sum(end <= common for end in ENDS)
    assert a[:same] == b[:same]
    assert not set(a[same:]) & set(b[same:])


def test_a_long_prompt_costs_no_more_than_its_beginning() -> None:
    assert PROMPT_BYTES == 64 * 1024
    prompt = bytes(range(256)) * 256
    assert HINTS.hint("m", prompt, None) == HINTS.hint("m", prompt + b"more" * 9999, None)
    assert len(HINTS.hint("m", prompt, None).prefix) == 16


def test_a_short_prompt_shares_nothing_worth_keeping() -> None:
    assert HINTS.hint("m", b"x" * 255, None) is NO_HINT
    assert HINTS.hint("m", b"", "s").session == HINTS.session("s")


def test_numbers_of_another_salt_do_not_compare() -> None:
    one, other = (Hints(salt).hint("m", b"x" * 600, "s") for salt in (b"1", b"2"))
    assert one.session != other.session
    assert not set(one.prefix) & set(other.prefix)


def test_the_salt_is_not_shown() -> None:
    assert "salt" not in repr(HINTS)
