"""The two ways to the members of an object find what `json.loads` finds."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.services.routing.json_texts import cut, damaged, loaded, objects
from vastproxy.services.routing.members import MAX_MEMBERS, Parsed
from vastproxy.services.routing.nested import MAX_STEPS
from vastproxy.services.routing.toplevel import TopLevel

WANTED = dict.fromkeys(["model", "stream", "messages", "prompt", "user", "metadata"], 1000)
PLACES = st.lists(st.integers(0, 400), max_size=8)


def check(found: TopLevel | Parsed, body: bytes) -> None:
    """Each wanted member is there, with its text, at its place."""
    said = loaded(body)
    assert said is not None
    assert found.values.keys() == said.keys() & WANTED.keys()
    for key, text in found.values.items():
        start, end = found.spans[key]
        assert body[start:end] == text
        assert json.loads(text.decode("utf-8", "surrogatepass")) == said[key]
    assert found.opened_at == body.index(b"{")


def read(body: bytes, places: list[int]) -> TopLevel:
    found = TopLevel(WANTED)
    for piece in cut(body, places):
        found.feed(piece)
    return found


@given(objects(), PLACES)
def test_an_object_in_pieces(body: bytes, places: list[int]) -> None:
    found = read(body, places)
    assert found.complete
    assert not found.broken
    check(found, body)


@given(objects())
def test_an_object_as_a_whole(body: bytes) -> None:
    found = Parsed(body, WANTED)
    assert not found.broken
    check(found, body)


@given(damaged() | st.binary(max_size=30), PLACES)
@example(b'{"a":1,}', [])
@example(b'{"a":1}x', [])
@example(b'{"a" 1}', [])
@example(b'{"a":}', [])
@example(b'{,"a":1}', [])
@example(b'{"a":1 "b":2}', [])
@example(b'\xef\xbb{"a":1}', [1])
def test_what_python_refuses_is_refused_as_a_whole(body: bytes, places: list[int]) -> None:
    """In pieces nothing is claimed but that what Python takes is read alike, and that nothing else does harm."""
    whole, pieces = Parsed(body, WANTED), read(body, places)
    if loaded(body) is None:
        assert whole.broken
    else:
        assert pieces.complete
        check(whole, body)
        check(pieces, body)


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"a', b'{"a"', b'{"a":', b'{"a":1', b'{"a":"x', b'{"a":"x\\', b'{"a":[', b'{"a":1,'],
)
def test_half_an_object_is_neither_complete_nor_broken(body: bytes) -> None:
    found = read(body, [1, 2, 3])
    assert not found.complete
    assert not found.broken
    assert Parsed(body, WANTED).broken


def test_every_cut_of_an_object_with_everything_in_it() -> None:
    body = (
        b'\xef\xbb\xbf { "messages" : [{"model":"a","x":"\\\\\\"}"},[],{}] , "\\u006dodel"\t:\r\n"b\\"\\\\" ,'
        b'"n":-1.5e3,"stream":true,"user":null } \n'
    )
    for at in range(len(body)):
        found = read(body, [at])
        assert found.complete
        check(found, body)
    check(read(body, list(range(len(body)))), body)


def test_a_long_value_is_kept_as_far_as_wanted() -> None:
    body = json.dumps({"prompt": "x" * 5000, "model": "m"}).encode()
    for found in (read(body, [7, 300]), Parsed(body, WANTED)):
        assert found.values["prompt"] == b'"' + b"x" * 999
        assert found.spans["prompt"] == (11, 11 + 5002)
        assert found.values["model"] == b'"m"'


def test_white_space_without_end_is_not_held() -> None:
    found = read(b"{" + b" " * 100_000 + b'"model":' + b"\n" * 100_000 + b'"m"' + b" " * 100_000 + b"}", [5])
    assert found.values == {"model": b'"m"'}
    assert found.complete


@pytest.mark.parametrize("token", [b'"' + b"k" * 5000, b'"a":' + b"1" * 5000])
def test_a_key_or_a_number_without_end_is_given_up(token: bytes) -> None:
    assert read(b"{" + token, []).broken


@pytest.mark.parametrize("filling", [b'"",', b"[],"])
def test_a_riddle_is_given_up(filling: bytes) -> None:
    """What would keep us busy for seconds costs no more than a fraction of one."""
    found = TopLevel(WANTED)
    found.feed(b'{"user":[')
    piece = filling * 20_000
    for _ in range(MAX_STEPS // 10_000):
        found.feed(piece)
        if found.broken:
            break
    assert found.broken


@pytest.mark.parametrize("member", [b'"a":1,', b'"a":"",', b'"a":[],', b'"\\u0061":1,', b'"model":"m",'])
def test_members_without_end_are_given_up(member: bytes) -> None:
    """A body of 64 MB of them would keep everybody waiting for a quarter of a minute."""
    body = b"{" + member * MAX_STEPS + b'"model":"m"}'
    whole = TopLevel(WANTED)
    whole.feed(body)
    assert whole.broken
    pieces = TopLevel(WANTED)
    for at in range(0, len(body), 65_536):
        pieces.feed(body[at : at + 65_536])
    assert pieces.broken
    assert Parsed(body, WANTED).broken
    few = b"{" + member * (MAX_MEMBERS // 2) + b'"model":"m"}'
    assert Parsed(few, WANTED).values["model"] == b'"m"'


def test_backslashes_without_end_cost_nothing() -> None:
    found = TopLevel(WANTED)
    found.feed(b'{"user":"' + b"\\\\" * 500_000 + b'","model":"m"}')
    assert found.values["model"] == b'"m"'


def test_reading_may_begin_inside() -> None:
    body = b'{"messages":[1,2],"model":"m","n":1}'
    at = body.index(b'"model"')
    found = TopLevel(WANTED, at=at)
    found.feed(body[at:])
    assert found.complete
    start, end = found.spans["model"]
    assert body[start:end] == b'"m"'
