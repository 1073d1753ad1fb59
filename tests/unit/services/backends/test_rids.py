"""An id of ours gets into the body of a request, and nothing else changes."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.rids import (
    PARSED_BYTES,
    RID_CHARS,
    Carried,
    RidUpload,
    carry,
    may_carry,
    new_rid,
)

RID = "0123456789abcdef" * 2
OWN = "my-own-id-that-is-long-enough-for-it"
CHAT = b"/v1/chat/completions"
COMPLETIONS = b"/v1/completions"
GENERATE = b"/generate"
RESPONSES = b"/v1/responses"

SPACE = st.text(" \t\r\n", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(max_size=6) | st.sampled_from(["rid", "n", "model", "messages", "stream", "tools"])
OBJECTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=6)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A JSON object in any formatting: spaces, escapes, indents, order."""
    value = draw(OBJECTS)
    indent = draw(st.sampled_from([None, 0, 2, "\t"]))
    separators = (draw(SPACE) + "," + draw(SPACE), draw(SPACE) + ":" + draw(SPACE))
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=draw(st.booleans()))
    return (draw(SPACE) + text + draw(SPACE)).encode("utf-8", "surrogatepass")


def dumps(value: Any, *, padding: int = 0) -> bytes:
    """With `padding`, long enough not to be parsed."""
    return json.dumps({"user": "x" * padding, **value} if padding else value).encode()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


def send(target: bytes, pieces: list[bytes]) -> tuple[bytes, str | None, int]:
    """The bytes that go up, the id in them, and by how much they were announced to grow."""
    upload = RidUpload.begin(target, pieces[0], RID)
    if upload is None:
        return b"".join(pieces), None, 0
    sent = b"".join(upload.feed(piece, last=False) for piece in pieces[:-1])
    sent += upload.feed(pieces[-1], last=True)
    return sent, upload.rid, upload.extra


# -- whole bodies ------------------------------------------------------------------------------------


@given(bodies())
def test_the_id_is_added_to_the_object_and_to_nothing_else(body: bytes) -> None:
    """Whatever its formatting, the body says the same as before, plus our id – or is left alone."""
    before = json.loads(body)
    got = carry(CHAT, body, RID)
    if before.get("rid") is not None:
        assert got is None or got == Carried(body, before["rid"])
    elif before.get("n", 1) in (1, None) and before.get("n") is not True:
        assert got is not None
        assert got.rid == RID
        assert json.loads(got.body) == before | {"rid": RID}
        assert got.body.replace(b',"rid":"%s"' % RID.encode(), b"") == body
    else:
        assert got is None


@given(bodies())
def test_a_long_body_is_changed_in_the_same_way_or_left_alone(body: bytes) -> None:
    before = json.loads(body)
    long = body.replace(b"{", b"{" + b" " * PARSED_BYTES, 1)
    got = carry(CHAT, long, RID)
    if got is not None:
        assert before.get("rid") is None
        assert before.get("n", 1) == 1
        assert json.loads(got.body) == before | {"rid": RID}


@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
@pytest.mark.parametrize(
    ("target", "wanted", "key", "value"),
    [
        (CHAT, {"messages": [{"role": "user", "content": 'say "rid" or "n": 3'}], "n": 1}, "rid", RID),
        (CHAT + b"?x=1", {"messages": [], "stream": True}, "rid", RID),
        (COMPLETIONS, {"prompt": "once"}, "rid", RID),
        (RESPONSES, {"input": "hi", "background": False}, "request_id", "resp_" + RID),
    ],
)
def test_where_an_id_is_taken(
    target: bytes, wanted: dict[str, Any], key: str, value: str, padding: int
) -> None:
    body = dumps(wanted, padding=padding)
    got = carry(target, body, RID)
    assert got is not None
    assert json.loads(got.body) == json.loads(body) | {key: value}
    assert got.rid == value


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (COMPLETIONS, {"prompt": [1, 2, 3], "n": None}),
        (GENERATE, {"text": "once", "sampling_params": {"n": 1}, "session_params": {"rid": "s"}}),
        (GENERATE, {"input_ids": [1, 2, 3], "text": None}),
    ],
)
def test_a_single_prompt_in_its_other_forms(target: bytes, wanted: dict[str, Any]) -> None:
    got = carry(target, dumps(wanted), RID)
    assert got is not None
    assert json.loads(got.body) == wanted | {"rid": RID}


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (CHAT, {"n": 2}),
        (CHAT, {"n": True}),
        (CHAT, {"n": "1"}),
        (CHAT, {"rid": "short"}),
        (CHAT, {"rid": [OWN]}),
        (CHAT, {}),
        (COMPLETIONS, {"prompt": ["one"]}),
        (COMPLETIONS, {"prompt": [[1], [2]]}),
        (COMPLETIONS, {"prompt": []}),
        (COMPLETIONS, {"prompt": "x", "n": 3}),
        (COMPLETIONS, {"n": 1}),
        (GENERATE, {"text": ["one", "two"]}),
        (GENERATE, {"text": "one", "sampling_params": {"n": 2}}),
        (GENERATE, {"text": "one", "sampling_params": [{"n": 1}]}),
        (GENERATE, {"input_ids": [[1], [2]]}),
        (GENERATE, {"input_ids": []}),
        (GENERATE, {"input_embeds": [[0.5]]}),
        (GENERATE, {"text": "one", "input_ids": [1]}),
        (RESPONSES, {"input": "hi", "background": True}),
        (b"/v1/embeddings", {"input": "hi"}),
        (b"/v1/messages", {"messages": []}),
        (b"/v1/chat/completions/", {"messages": []}),
    ],
)
def test_what_older_versions_would_refuse_or_an_id_cannot_end_goes_without(
    target: bytes, wanted: dict[str, Any]
) -> None:
    assert carry(target, dumps(wanted), RID) is None


@pytest.mark.parametrize(
    "wanted",
    [{"n": 2}, {"n": 10}, {"n": None}, {"rid": OWN}, {"tools": [{"properties": {"n": {"type": "integer"}}}]}],
)
def test_a_long_body_goes_without_when_in_doubt(wanted: dict[str, Any]) -> None:
    assert carry(CHAT, dumps(wanted, padding=PARSED_BYTES), RID) is None
    disguised = dumps({"\u0001": 2}, padding=PARSED_BYTES).replace(b"\\u0001", b"\\u006e")
    assert json.loads(disguised)["n"] == 2
    assert carry(CHAT, disguised, RID) is None


def test_long_token_ids_are_left_alone_or_read() -> None:
    """/generate refuses an id for a batch before 0.4.8, so its long bodies are parsed."""
    ids = {"input_ids": list(range(PARSED_BYTES // 4))}
    got = carry(GENERATE, dumps(ids), RID)
    assert got is not None
    assert json.loads(got.body) == ids | {"rid": RID}
    assert RidUpload.begin(GENERATE, dumps(ids), RID) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'[{"a": 1}]',
        b'"{}"',
        b"{}",
        b"{ \n }",
        b"{",
        b"}",
        b'{"a": 1',
        b'{"a": 1,}',
        b'{"a": 1}}',
        b'{"a": 1} x',
        b'{"a": \xff}',
        b"\xef\xbb\xbf" + b'{"a": 1}',
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-16-be"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_object_in_utf8_is_not_touched(body: bytes) -> None:
    assert carry(CHAT, body, RID) is None or len(body) > PARSED_BYTES


def test_a_clients_own_id_is_used_only_if_it_cannot_begin_anothers() -> None:
    """SGLang ends every request whose id begins with the one that is given."""
    own = dumps({"messages": [], "rid": OWN})
    assert carry(CHAT, own, RID) == Carried(own, OWN)
    assert carry(CHAT, dumps({"rid": RID[:-1]}), RID) is None
    assert carry(CHAT, dumps({"rid": ""}), RID) is None


def test_an_id_that_is_null_is_none() -> None:
    got = carry(CHAT, b'{"rid": null, "n": 1}', RID)
    assert got is not None
    assert json.loads(got.body) == {"rid": RID, "n": 1}


@pytest.mark.parametrize(
    ("method", "target", "headers", "expected"),
    [
        ("POST", CHAT, [(b"content-type", b"application/json")], True),
        ("POST", GENERATE + b"?a=b", [], True),
        ("GET", CHAT, [], False),
        ("POST", b"/v1/embeddings", [], False),
        ("POST", CHAT, [(b"content-encoding", b"br")], False),
        ("POST", CHAT, [(b"x-body-compressed", b"zstd")], False),
        ("POST", CHAT, [(b"content-digest", b"sha-256=:x:")], False),
    ],
)
def test_which_requests_may_carry_one(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert may_carry(method, target, headers) is expected


def test_ids_are_fresh_of_one_length_and_all_of_them_random() -> None:
    made = {new_rid() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(rid) for rid in made} == {RID_CHARS}
    assert len({rid[:4] for rid in made}) > 900  # one says nothing of the next
    assert new_rid(random.Random(1).randbytes) == new_rid(random.Random(1).randbytes)


# -- bodies that are sent on while they come in ------------------------------------------------------


@given(bodies(), st.lists(st.integers(0, 200), max_size=6))
def test_pieces_say_the_same_as_the_whole(body: bytes, places: list[int]) -> None:
    """Cut anywhere, what goes up is the object plus our id, or the object as it was; of the announced length."""
    before = json.loads(body)
    sent, rid, extra = send(CHAT, cut(body, places))
    assert len(sent) == len(body) + extra
    if rid is None:
        assert sent.rstrip() == body.rstrip()
    else:
        assert before.get("rid") is None
        assert before.get("n", 1) == 1
        assert json.loads(sent) == before | {"rid": rid}


@given(
    st.binary(max_size=40) | st.text('{}[]", \n:1a', max_size=40).map(str.encode),
    st.lists(st.integers(0, 40)),
)
def test_what_is_no_object_gets_nothing_but_white_space_at_its_end(body: bytes, places: list[int]) -> None:
    """And no body becomes valid by what was put in."""
    sent, rid, extra = send(CHAT, cut(body, places))
    assert len(sent) == len(body) + extra
    if rid is None:
        assert sent == body + b" " * extra
        return
    try:
        json.loads(body)
    except ValueError:
        with pytest.raises(json.JSONDecodeError):
            json.loads(sent)


def test_every_cut_of_a_usual_body_carries_the_id() -> None:
    body = b' {"model":"m","messages":[{"role":"user","content":"a } b"}],"stream":true} \n'
    expected = json.loads(body) | {"rid": RID}
    for first, second in itertools.combinations(range(2, len(body) + 1), 2):
        sent, rid, _ = send(CHAT, cut(body, [first, second]))
        assert (json.loads(sent), rid) == (expected, RID)


def test_one_byte_at_a_time_nothing_forbidden_slips_through() -> None:
    """A needle in two pieces is still seen."""
    for forbidden in ('"rid": "x"', '"n": 2', '"\\u006e": 2', '"request_id": "y"'):
        body = ('{"a": "' + "b" * 50 + '", ' + forbidden + ', "c": 1}').encode()
        target = RESPONSES if "request" in forbidden else CHAT
        sent, rid, extra = send(target, [body[at : at + 1] for at in range(len(body))])
        assert (sent, rid) == (body + b" " * extra, None)


def test_a_beginning_that_rules_it_out_costs_nothing() -> None:
    for first in (b"", b"  ", b"[1", b'{"rid": ', b"\x1f\x8b"):
        assert RidUpload.begin(CHAT, first, RID) is None
    assert RidUpload.begin(b"/v1/embeddings", b"{", RID) is None


def test_white_space_without_end_is_not_held() -> None:
    upload = RidUpload.begin(CHAT, b'{"a": 1}', RID)
    assert upload is not None
    assert upload.feed(b'{"a": 1}', last=False) == b'{"a": 1'
    assert upload.feed(b" " * 100, last=False) == b""
    assert len(upload.feed(b" " * 10_000, last=False)) == 1 + 10_100
    assert upload.feed(b"", last=True) == b" " * upload.extra
    assert upload.rid is None
