"""Inbound keys."""

import pytest

from vastproxy.api.auth import KeyRing


@pytest.mark.parametrize("sent", [b"Bearer one", b"bearer two", b"BEARER  two ", b"Bearer one "])
def test_a_key_is_accepted_in_the_forms_that_clients_send(sent: bytes) -> None:
    assert KeyRing(["one", "two"]).accepts(sent)


@pytest.mark.parametrize(
    "sent", [b"", b"Bearer", b"Bearer ", b"Bearer ones", b"Bearer on", b"Basic one", b"one", b"Bearer \xff"]
)
def test_nothing_else_is(sent: bytes) -> None:
    assert not KeyRing(["one", "two"]).accepts(sent)


def test_an_empty_key_opens_nothing() -> None:
    assert not KeyRing([""])
    assert not KeyRing([""]).accepts(b"Bearer ")


def test_keys_are_not_in_the_repr() -> None:
    assert repr(KeyRing(["secret", "other"])) == "<KeyRing of 2 keys>"
