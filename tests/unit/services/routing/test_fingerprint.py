"""Hashes of prompts and sessions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.fingerprint import Fingerprint, boundaries

KEY = b"k" * 16
PRINT = Fingerprint(KEY, block_bytes=8, max_bytes=512)


@given(st.binary(max_size=600), st.binary(max_size=600), st.binary(max_size=600))
def test_prompts_share_as_many_hashes_as_their_beginnings_cover(
    shared: bytes, one: bytes, other: bytes
) -> None:
    first, second = PRINT.prefix(b"m", shared + one), PRINT.prefix(b"m", shared + other)
    alike = len(shared) + next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    ends = [end * 8 for end in boundaries(64)]
    expected = sum(end <= alike for end in ends)
    assert first[:expected] == second[:expected]
    assert not set(first[expected:]) & set(second[expected:])


@given(st.binary(max_size=2000))
def test_a_longer_prompt_keeps_the_hashes_of_its_beginning(prompt: bytes) -> None:
    assert PRINT.prefix(b"m", prompt + b"more and more of it")[
        : len(PRINT.prefix(b"m", prompt))
    ] == PRINT.prefix(b"m", prompt)


def test_a_prompt_below_a_block_has_no_hash_and_no_prompt_many() -> None:
    fingerprint = Fingerprint(KEY)
    assert fingerprint.prefix(b"m", b"x" * 255) == ()
    assert len(fingerprint.prefix(b"m", memoryview(b"x" * 256))) == 1
    assert fingerprint.prefix(b"m", b"x" * 65_536) == fingerprint.prefix(b"m", b"x" * 10_000_000)
    assert len(fingerprint.prefix(b"m", b"x" * 65_536)) == len(boundaries(256)) == 40


@given(st.integers(1, 4096))
def test_boundaries_are_fine_at_first_and_never_far_apart(blocks: int) -> None:
    ends = boundaries(blocks)
    assert ends[:16] == tuple(range(1, min(16, blocks) + 1))
    assert all(0 < after - before <= max(1, before / 8) for before, after in pairwise(ends))
    assert blocks / 1.2 <= ends[-1] <= blocks


def test_models_and_processes_have_hashes_of_their_own() -> None:
    prompt = b"x" * 64
    assert not set(PRINT.prefix(b"m", prompt)) & set(PRINT.prefix(b"n", prompt))
    other = Fingerprint(b"K" * 16, block_bytes=8, max_bytes=512)
    assert not set(PRINT.prefix(b"m", prompt)) & set(other.prefix(b"m", prompt))
    assert PRINT.session(b"a") != other.session(b"a") != PRINT.session(b"b")
    assert PRINT.session(b"a") == Fingerprint(KEY).session(b"a")


def test_a_repr_shows_no_key() -> None:
    assert repr(PRINT) == "<Fingerprint of 512 bytes>"


def test_a_key_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        Fingerprint(b"x" * 65)
