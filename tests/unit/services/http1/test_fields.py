"""Header lines are read once and mean the same ever after; what is secret or endless is not kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.http1.fields import MAX_LINE_BYTES, MAX_LINES, FieldTable, marked, wire
from vastproxy.services.http1.grammar import GrammarError, parse_fields

NAMES = st.sampled_from([b"Host", b"X-A", b"x-a", b"Connection", b"Accept", b"Content-Length"])
VALUES = st.sampled_from([b"", b"v", b"a, b", b"x: y", b"\xff\x80", b"v \t"])
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t "]), VALUES))
NONE: frozenset[bytes] = frozenset()


def table(never: frozenset[bytes] = NONE, read_here: frozenset[bytes] = NONE) -> FieldTable:
    return FieldTable(never=never, marked=read_here)


def head(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (b"GET / HTTP/1.1", *lines)) + b"\r\n"


@given(st.lists(LINES, max_size=5))
def test_a_line_means_the_same_whether_it_is_new_or_not(
    heads: list[list[tuple[bytes, bytes, bytes]]],
) -> None:
    """One table for many heads gives what the plain parser gives for each."""
    known = table()
    for lines in heads:
        raw = head(*(b"".join(line) for line in lines))
        begin = raw.index(b"\n") + 1
        assert [field.header for field in known.read(raw, begin)] == parse_fields(raw, begin)


@pytest.mark.parametrize(
    "line", [b"", b"A", b" A: b", b"A : b", b"A: b\rc", b"A: b\nC: d", b"A: \x00", b": b", b"A\t: b"]
)
def test_what_is_no_header_line_is_refused_again_and_again(line: bytes) -> None:
    """A refusal is not remembered as anything."""
    known = table()
    for _ in range(2):
        with pytest.raises(GrammarError):
            known.read(head(b"Host: x", line, b"B: c"), 16)
    assert len(known) <= 2


def test_a_head_without_headers_and_one_that_does_not_end() -> None:
    assert table().read(head(), 16) == []
    with pytest.raises(GrammarError):
        table().read(head(b"A: b")[:-2], 16)


def test_what_does_not_travel_has_no_line_and_what_is_read_here_is_found() -> None:
    known = table(frozenset({b"host"}), frozenset({b"host", b"x-a"}))
    fields = known.read(head(b"Host: h", b"X-A:  1 ", b"B: 2", b"x-a: 3"), 16)
    assert wire(fields, NONE) == b"x-a: 1\r\nb: 2\r\nx-a: 3\r\n"
    assert wire(fields, frozenset({b"x-a"})) == b"b: 2\r\n"
    assert marked(fields) == {b"host": [b"h"], b"x-a": [b"1", b"3"]}
    assert known.make((b"host", b"h")) == fields[0]


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"cookie",
        b"Set-Cookie",
        b"X-API-Key",
        b"proxy-authorization",
        b"Sec-WebSocket-Protocol",
    ],
)
def test_secrets_are_not_kept(name: bytes) -> None:
    known = table()
    assert known.read(head(name + b": s3cret"), 16)[0].header == (name.lower(), b"s3cret")
    assert len(known) == 0


def test_the_table_has_a_bound() -> None:
    """Neither many lines nor long ones make it grow without end."""
    known = table()
    for number in range(MAX_LINES + 10):
        known.read(head(b"X-N: %d" % number), 16)
        assert len(known) <= MAX_LINES
    before = len(known)
    assert known.read(head(b"X-L: " + b"v" * MAX_LINE_BYTES), 16)[0].header[1] == b"v" * MAX_LINE_BYTES
    assert len(known) == before
