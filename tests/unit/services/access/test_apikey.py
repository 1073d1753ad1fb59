"""What keys look like."""

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.access.apikey import SHOWN, is_whole, make_key, shown

SEEDS = st.integers(0, 2**32)


def key_of(seed: int) -> str:
    return make_key(random.Random(seed).choice)


@given(SEEDS)
def test_a_key_is_whole_and_one_that_was_cut_or_mistyped_is_not(seed: int) -> None:
    key = key_of(seed)
    assert re.fullmatch(r"vp-[0-9A-Za-z]{49}", key)
    assert is_whole(key)
    assert SHOWN.fullmatch(shown(key))
    assert key.startswith(shown(key))
    for broken in (key[:-1], key + "a", key[3:], key.swapcase(), "vp-" + key[3:][::-1]):
        assert not is_whole(broken) or broken == key


@given(SEEDS, st.integers(3, 51), st.sampled_from("aZ09"))
def test_one_wrong_character_is_noticed(seed: int, at: int, char: str) -> None:
    key = key_of(seed)
    typo = key[:at] + char + key[at + 1 :]
    assert is_whole(typo) == (typo == key)


def test_no_two_keys_are_alike() -> None:
    keys = {make_key() for _ in range(1_000)}
    assert len(keys) == 1_000
    assert all(len(set(key)) > 15 for key in keys)
