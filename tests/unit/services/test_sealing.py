"""What is sealed can be opened by who holds the secret, for its purpose, unchanged, and not otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.sealing import Seal, Unsealable

SECRET = "0123456789abcdef" * 4


@given(st.binary(max_size=500))
def test_what_is_sealed_comes_out_again(plain: bytes) -> None:
    sealed = Seal(SECRET, "api").close(plain, "list")
    assert Seal(SECRET, "api").open(sealed, "list") == plain


@given(st.binary(max_size=100), st.integers(0, 10_000))
def test_a_changed_byte_is_noticed(plain: bytes, where: int) -> None:
    seal = Seal(SECRET, "api")
    sealed = bytearray(seal.close(plain, "list"))
    sealed[where % len(sealed)] ^= 1
    with pytest.raises(Unsealable):
        seal.open(bytes(sealed), "list")


@given(st.binary(max_size=100))
def test_garbage_is_never_anything_but_unsealable(garbage: bytes) -> None:
    with pytest.raises(Unsealable):
        Seal(SECRET, "api").open(garbage, "list")


@pytest.mark.parametrize(
    ("secret", "scope", "purpose"),
    [("other", "api", "list"), (SECRET, "other", "list"), (SECRET, "api", "user")],
)
def test_another_secret_scope_or_purpose_does_not_open_it(secret: str, scope: str, purpose: str) -> None:
    sealed = Seal(SECRET, "api").close(b"x", "list")
    with pytest.raises(Unsealable):
        Seal(secret, scope).open(sealed, purpose)


def test_the_name_is_shared_by_those_with_the_same_secret_and_does_not_show_it() -> None:
    assert Seal(SECRET, "api").name == Seal(SECRET, "api").name
    assert len({Seal(SECRET, "api").name, Seal(SECRET, "other").name, Seal("other", "api").name}) == 3
    assert SECRET[:8] not in Seal(SECRET, "api").name
    assert SECRET[:8] not in repr(Seal(SECRET, "api"))


def test_the_same_bytes_never_look_the_same() -> None:
    seal = Seal(SECRET, "api")
    assert seal.close(b"x", "list") != seal.close(b"x", "list")
