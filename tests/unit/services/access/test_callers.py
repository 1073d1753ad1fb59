"""Who is behind a key, and which models it is good for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.access.callers import ALL_RIGHTS, Caller, Callers
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.services.routing.ticket import Priority


def caller_of(limits: KeyLimits) -> Caller:
    book, _, key = KeyBook().create("web", rights=frozenset({Right.INFERENCE}), limits=limits, now=0.0)
    caller = Callers(book=book).find([b"Bearer " + key.encode()])
    assert caller is not None
    return caller


@pytest.mark.parametrize(
    "sent", [b"", b"Bearer", b"Bearer ", b"Bearer ones", b"Bearer on", b"Basic one", b"one", b"Bearer \xff"]
)
def test_what_is_no_key_finds_nobody(sent: bytes) -> None:
    assert Callers(["one", "two"]).find([sent]) is None


@pytest.mark.parametrize("sent", [[], [b"Bearer one", b"Bearer one"], [b"Bearer x", b"Bearer one"]])
def test_a_key_is_sent_once(sent: list[bytes]) -> None:
    assert Callers(["one"]).find(sent) is None


@given(st.binary(max_size=60))
def test_no_bytes_find_anybody_but_the_key(sent: bytes) -> None:
    assert (Callers(["one"]).find([b"Bearer " + sent]) is not None) == (sent.strip() == b"one")


def test_keys_of_the_settings_may_do_everything_and_are_numbered() -> None:
    callers = Callers(["one", "two"])
    found = [callers.find([b"Bearer " + key]) for key in (b"one", b"two")]
    assert [caller and (caller.name, caller.rights, caller.meter) for caller in found] == [
        ("env-1", ALL_RIGHTS, None),
        ("env-2", ALL_RIGHTS, None),
    ]


@pytest.mark.parametrize(
    ("models", "asked", "allowed"),
    [
        ((), "whatever", True),
        ((), None, True),
        (("llama-*",), "llama-3", True),
        (("llama-*",), "LLaMA-3", True),
        (("LLAMA-*",), "llama-3", True),
        (("llama-*",), "my-llama-3", False),
        (("llama-*",), "llama-3\nx", True),
        (("llama",), "llama\n", False),
        (("a", "b?"), "b1", True),
        (("a", "b?"), "b", False),
        (("org/*",), "org/team/model", True),
        (("a",), None, False),
        (("*",), None, False),
    ],
)
def test_models(models: tuple[str, ...], asked: str | None, allowed: bool) -> None:
    """A request that names no model could be served any."""
    caller = caller_of(KeyLimits(models=models))
    assert caller.may_use(asked) is allowed
    assert caller.chooses_model is not bool(models)


def test_the_class_of_a_key() -> None:
    assert caller_of(KeyLimits(priority="batch")).priority is Priority.BATCH
    assert caller_of(KeyLimits()).priority is Priority.INTERACTIVE


def test_only_keys_with_something_to_count_are_counted() -> None:
    assert caller_of(KeyLimits(models=("a",))).meter is None
    assert caller_of(KeyLimits(concurrent=1)).meter is not None


def test_what_is_not_counted_costs_nothing_and_stands_for_nobody() -> None:
    caller = Callers().find([])
    assert caller is not None
    assert caller.id is None
    assert repr(caller) == "<Caller anyone admin+inference>"


def test_a_key_of_our_own_asks_nobody_else_for_one() -> None:
    """It is accepted where keys are asked for, and without them everybody is as welcome as before."""
    callers = Callers(["one"], own="ours")
    found = callers.find([b"Bearer ours"])
    assert found is not None
    assert (found.name, found.rights) == ("dashboard", ALL_RIGHTS)
    assert callers.find([b"Bearer one"]) is not None
    assert callers.find([]) is None
    alone = Callers(own="ours")
    assert not alone.asks_for_key
    assert alone.find([]) is not None
