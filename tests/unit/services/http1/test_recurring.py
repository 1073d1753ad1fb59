"""The last head is recognised when it comes again, whatever the length behind it – and nothing else is."""

import re
from dataclasses import fields

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.corpus.requests import REQUESTS
from tests.corpus.responses import RESPONSES
from tests.helpers.mangled import mangled
from vastproxy.api.http.request import BadRequest, RequestReader
from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.http1.recurring import LastHead
from vastproxy.services.upstream.response import ResponseReader

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %b\r\nX: y\r\n\r\n"


def kept(raw: bytes = HEAD % b"12", *, has_length: bool = True) -> LastHead[str]:
    last: LastHead[str] = LastHead()
    last.keep(raw, "made", has_length=has_length)
    return last


def test_nothing_is_recognised_before_there_was_a_head() -> None:
    assert LastHead[str]().find(b"GET / HTTP/1.1\r\n\r\n") is None


@pytest.mark.parametrize("length", [1, 7, 12, 500, 999_999_999_999_999])
def test_the_same_head_with_another_length(length: int) -> None:
    raw = HEAD % b"%d" % length
    assert kept().find(raw) == ("made", length, len(raw))
    assert kept().find(raw + b"and its body") == ("made", length, len(raw))


@pytest.mark.parametrize(
    "digits",
    [
        b"",
        b"0",
        b"00",
        b"012",
        b"-1",
        b"+1",
        b"1 2",
        b"1,1",
        b"1_0",
        b"0x1",
        b"\xb2",
        b"1" * 16,
        b"1\r\nA: b",
    ],
)
def test_a_length_that_must_be_read_is_not_recognised(digits: bytes) -> None:
    assert kept().find(HEAD % digits) is None


@pytest.mark.parametrize(
    "raw",
    [
        HEAD.replace(b"X: y", b"X: z") % b"12",
        HEAD.replace(b"Host", b"host") % b"12",
        HEAD.replace(b"Content-Length", b"content-length") % b"12",
        b" " + HEAD % b"12",
        HEAD[:-2] % b"12",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ",
    ],
)
def test_any_other_difference_makes_it_another_head(raw: bytes) -> None:
    assert kept().find(raw) is None


def test_beginning_and_end_may_not_share_bytes() -> None:
    """`12` between `…: ` and the line's end: a head that lacks a part of both is none."""
    raw = b"A\r\nContent-Length: 1\r\n\r\n"
    last = kept(raw)
    assert last.find(raw) == ("made", 1, len(raw))
    assert last.find(b"A\r\nContent-Length: \r\n\r\n") is None
    assert last.find(b"A\r\nContent-Length: \r\n") is None


def test_a_head_without_a_length_is_recognised_as_it_is() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    last = kept(raw, has_length=False)
    assert last.find(raw) == ("made", None, len(raw))
    assert last.find(raw + raw) == ("made", None, len(raw))
    assert last.find(raw.replace(b"h", b"i")) is None


def test_a_length_in_another_field_is_no_length() -> None:
    raw = b"GET / HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n"
    last = kept(raw)
    assert last.find(raw) == ("made", None, len(raw))
    assert last.find(raw.replace(b"5", b"6")) is None


def test_who_writes_every_head_anew_is_not_compared_for_ever() -> None:
    last: LastHead[int] = LastHead()
    for number in range(20):
        raw = HEAD.replace(b"X: y", b"X: %d" % number) % b"5"
        assert last.find(raw) is None
        last.keep(raw, number, has_length=True)
    assert last.find(raw) is None


def test_who_comes_again_now_and_then_goes_on_being_compared() -> None:
    last: LastHead[int] = LastHead()
    for number in range(20):
        raw = HEAD.replace(b"X: y", b"X: %d" % number) % b"5"
        last.keep(raw, number, has_length=True)
        assert last.find(raw) == (number, 5, len(raw))


REQUEST_HEADS = tuple(case.raw for cases in REQUESTS.values() for case in cases if len(case.raw) < 500)
RESPONSE_HEADS = tuple(case.raw for cases in RESPONSES.values() for case in cases if len(case.raw) < 500)
LENGTH = re.compile(rb"(?i)(?<=content-length: )\d+")


@st.composite
def followed(draw: st.DrawFn, heads: tuple[bytes, ...]) -> tuple[bytes, bytes]:
    """A message, and one behind it: the same, the same with another length, or any."""
    kind = draw(st.sampled_from(("same", "other length", "any")))
    event(kind)
    with_length = [head for head in heads if LENGTH.search(head)]
    first = draw(st.sampled_from(with_length) if kind == "other length" else mangled(heads, most=1))
    if kind == "any":
        return first, draw(mangled(heads, most=1))
    if kind == "same":
        return first, first
    digits = draw(st.sampled_from((b"0", b"1", b"4", b"007", b"99", b"1 ", b"", b"-1", b"1" * 17)))
    return first, LENGTH.sub(digits, first)


def request_of(reader: RequestReader, raw: bytes) -> tuple[object, ...] | None:
    """What a reader makes of a request: None when it refuses it."""
    try:
        body = reader.feed(raw)
    except BadRequest:
        return None
    if (request := reader.request) is None:
        return (b"nothing",)
    told = {
        name: getattr(request, name)
        for name in (each.name for each in fields(request))
        if name not in NOT_TOLD
    }
    return told, request.headers, body, reader.complete, reader.rest


#: What others have noted there, and the lines as they came with the first one: `headers` tells them as they are.
NOT_TOLD = {"facts", "is_again", "fields", "known"}


@settings(max_examples=600, deadline=None)
@given(followed(REQUEST_HEADS))
def test_a_request_is_the_same_behind_any_other(pair: tuple[bytes, bytes]) -> None:
    """A connection that has read another request reads the next one as a fresh connection does."""
    used = RequestReader()
    if request_of(used, pair[0]) is None or not used.complete or used.next():
        return
    assert request_of(used, pair[1]) == request_of(RequestReader(), pair[1])


def answer_of(reader: ResponseReader, raw: bytes) -> tuple[object, ...] | None:
    """As `request_of`, of an answer."""
    reader.begin(head_only=False)
    try:
        body = reader.feed(raw)
    except BackendProtocolError:
        return None
    return reader.head, body, reader.phase, reader.keep_alive, reader.interim, reader.trailers


@settings(max_examples=600, deadline=None)
@given(followed(RESPONSE_HEADS))
def test_an_answer_is_the_same_behind_any_other(pair: tuple[bytes, bytes]) -> None:
    """A connection that has read another answer reads the next one as a fresh connection does."""
    used = ResponseReader()
    if answer_of(used, pair[0]) is None or not used.keep_alive or not used.end():
        return
    used.interim.clear()
    assert answer_of(used, pair[1]) == answer_of(ResponseReader(), pair[1])
