"""Heads: what is read, what is refused, and that packets and hostile shapes change neither the result nor its cost."""

import contextlib
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.heads import RequestLine, parse_request_head, parse_response_head
from vastproxy.services.http1.grammar import (
    GrammarError,
    HeadBuffer,
    VersionError,
    parse_fields,
)

LIMIT = 256
HEAD = b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"


# ── request lines ──────────────────────────────────────────────────────────────────────────────


def test_a_request_head_is_read_byte_for_byte() -> None:
    line, fields = parse_request_head(
        b"POST /a%2Fb?c=\xc3\xa9&d HTTP/1.1\r\nHOST: x\r\nX-a:\t one \t\r\nx-A:two\r\nEmpty:\r\n\r\n"
    )
    assert line == RequestLine(b"POST", b"/a%2Fb?c=\xc3\xa9&d", 1)
    assert fields == [(b"host", b"x"), (b"x-a", b"one"), (b"x-a", b"two"), (b"empty", b"")]


@pytest.mark.parametrize(("version", "minor"), [(b"1.0", 0), (b"1.1", 1), (b"1.2", 1), (b"1.9", 1)])
def test_every_version_1_is_spoken_as_one_of_two(version: bytes, minor: int) -> None:
    assert parse_request_head(b"GET / HTTP/%b\r\n\r\n" % version)[0].minor == minor


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.1"])
def test_other_versions_have_an_error_of_their_own(version: bytes) -> None:
    with pytest.raises(VersionError, match=f"HTTP/{version.decode()}"):
        parse_request_head(b"PRI * HTTP/%b\r\n\r\n" % version)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1 \r\n",
        b" GET / HTTP/1.1\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /  HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / HTTP/11\r\n",
        b"GET / HTTP/1.\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /#x HTTP/1.1\r\n",
        b"GET /\x00 HTTP/1.1\r\n",
        b"GET /\x7f HTTP/1.1\r\n",
        b"GET /\r HTTP/1.1\r\n",
        b"get / HTTP/1.1\r\n",
        b"G@T / HTTP/1.1\r\n",
        b"_GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_request_line_has_one_form(line: bytes) -> None:
    with pytest.raises(GrammarError):
        parse_request_head(line + b"Host: x\r\n\r\n")


# ── status lines ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "minor", "status"),
    [
        (b"HTTP/1.1 200 OK", 1, 200),
        (b"HTTP/1.0 404 Not Found", 0, 404),
        (b"HTTP/1.1 200", 1, 200),
        (b"HTTP/1.1 200 ", 1, 200),
        (b"HTTP/1.1 599 d\xc3\xa9j\xc3\xa0\tvu", 1, 599),
        (b"HTTP/1.1 100 Continue", 1, 100),
    ],
)
def test_status_lines(line: bytes, minor: int, status: int) -> None:
    assert parse_response_head(line + b"\r\nA: b\r\n\r\n") == (minor, status, [(b"a", b"b")])


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 099 Low",
        b"HTTP/1.1 600 High",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 +20 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 O\x00K",
        b"HTTP/1.1 200 O\rK",
        b"",
    ],
)
def test_a_status_line_has_one_form(line: bytes) -> None:
    with pytest.raises(GrammarError, match="status line"):
        parse_response_head(line + b"\r\n\r\n")


# ── fields ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "lines",
    [
        b"A : b\r\n",
        b" A: b\r\n",
        b"\tA: b\r\n",
        b"A: b\r\n folded\r\n",
        b"A: b\r\n\tfolded\r\n",
        b"A\r\n",
        b": b\r\n",
        b"A b: c\r\n",
        b"\xc3\xa4: b\r\n",
        b'A": b\r\n',
        b"A(: b\r\n",
        b"A: b\n",
        b"A: b\nC: d\r\n",
        b"A: b\rC: d\r\n",
        b"A: b\r\r\n",
        b"A: \x00\r\n",
        b"A: \x0b\r\n",
        b"A: \x1f\r\n",
        b"A: \x7f\r\n",
        b"\n",
        b"\r",
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(lines: bytes) -> None:
    for before in (b"", b"Host: x\r\n"):
        for behind in (b"", b"Z: z\r\n"):
            with pytest.raises(GrammarError):
                parse_request_head(b"GET / HTTP/1.1\r\n" + before + lines + behind + b"\r\n")
            with pytest.raises(GrammarError):
                parse_response_head(b"HTTP/1.1 200 OK\r\n" + before + lines + behind + b"\r\n")


def test_values_keep_what_is_inside_them() -> None:
    _, fields = parse_request_head(b"GET / HTTP/1.1\r\nA: \t x \t y:\xff\x80 \t \r\nB: \t\r\n\r\n")
    assert fields == [(b"a", b"x \t y:\xff\x80"), (b"b", b"")]


def test_a_block_without_fields_is_its_blank_line() -> None:
    assert parse_fields(b"\n\r\n", 1) == []


TOKEN = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
VALUE = st.binary(max_size=12).map(lambda raw: bytes(b for b in raw if b >= 32 and b != 127).strip(b" \t"))


@given(st.lists(st.tuples(TOKEN, VALUE)))
def test_what_is_written_is_read(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(b"%b: %b\r\n" % pair for pair in fields)
    assert parse_fields(b"\n" + block + b"\r\n", 1) == [(name.lower(), value) for name, value in fields]


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_without_controls_or_a_refusal(raw: bytes) -> None:
    try:
        fields = parse_fields(b"\n" + raw + b"\r\n", 1)
    except GrammarError:
        return
    assert raw.count(b"\n") == len(fields)
    for name, value in fields:
        assert name
        assert not set(name + value) & ({*range(32), 127} - {9})
        assert value == value.strip(b" \t")


# ── collecting a head ──────────────────────────────────────────────────────────────────────────


def collect(data: bytes, cuts: list[int], *, prefix: bytes = b"") -> tuple[bytes, bytes] | str | None:
    """What comes of `data` that arrives in pieces of these sizes: head and rest, a refusal, or nothing yet."""
    buffer = HeadBuffer(LIMIT, prefix=prefix)
    position = 0
    for size in [*cuts, len(data)]:
        piece = data[position : position + size]
        position += size
        if not piece:
            continue
        try:
            found = buffer.feed(piece)
        except GrammarError:
            return "malformed"
        except OverflowError:
            return "too long"
        if found is not None:
            return found[0], found[1] + data[position:]
    return None


CUTS = st.lists(st.integers(1, 40), max_size=40)


@given(CUTS, st.sampled_from([b"", b"body", HEAD, b"\r\n\r\n\r\n"]))
def test_a_head_is_found_however_it_arrives(cuts: list[int], rest: bytes) -> None:
    assert collect(HEAD + rest, cuts) == (HEAD, rest)
    assert collect(HEAD + rest, [1] * 200) == (HEAD, rest)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"a", b":", b" ", b"\r\n", b"\r\n\r\n"]), max_size=30), CUTS)
def test_no_cut_gives_another_head(parts: list[bytes], cuts: list[int]) -> None:
    """Cut or whole, the head ends at the first blank line, or the bytes are refused."""
    data = b"".join(parts)
    whole, cut = collect(data, []), collect(data, cuts)
    assert cut == whole or cut == "malformed"
    if (
        isinstance(whole, tuple) and cut == "malformed"
    ):  # what a cut shows early is found in the whole head, too
        with pytest.raises(GrammarError):
            parse_request_head(whole[0])


@given(CUTS)
def test_an_unfinished_head_waits(cuts: list[int]) -> None:
    assert collect(HEAD[:-1], cuts) is None


@pytest.mark.parametrize("over", [0, 1, 2, 3, 4, 100])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_limit_counts_the_whole_head(over: int, size: int) -> None:
    """A head of exactly the limit passes, one byte more does not, however it arrives."""
    fill = LIMIT + over - len(b"A: \r\n\r\n")
    data = b"A: " + b"x" * fill + b"\r\n\r\n" + b"rest"
    expected = (data[:-4], b"rest") if not over else "too long"
    assert collect(data, [size] * len(data)) == expected


def test_without_an_end_the_limit_is_not_waited_for_twice() -> None:
    buffer = HeadBuffer(LIMIT)
    with pytest.raises(OverflowError):
        for _ in range(LIMIT):
            buffer.feed(b"a")
    assert len(buffer) <= LIMIT


@pytest.mark.parametrize("data", [b"SSH-2.0-x", b"H\x00", b"HTTP/2", b"\r\n", b"http/1.1", b"HTTP/1.1 200\n"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_what_cannot_become_a_head_is_refused_at_once(data: bytes, size: int) -> None:
    assert collect(data, [size] * len(data), prefix=b"HTTP/1.") == "malformed"


def test_the_first_line_is_known_to_be_open() -> None:
    buffer = HeadBuffer(LIMIT)
    assert len(buffer) == 0
    assert buffer.feed(b"GET /") is None
    assert buffer.in_first_line
    assert buffer.feed(b" HTTP/1.1\r\n") is None
    assert not buffer.in_first_line
    assert len(buffer) == 16


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_a_first_line_beyond_the_limit_is_one_in_whatever_pieces_it_comes(size: int) -> None:
    buffer = HeadBuffer(LIMIT)
    data = b"GET /" + b"a" * 2 * LIMIT + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    with pytest.raises(OverflowError):
        for at in range(0, len(data), size):
            buffer.feed(data[at : at + size])
    assert buffer.in_first_line


# ── cost ───────────────────────────────────────────────────────────────────────────────────────

SIZE = 64 * 1024
NASTY = {
    "no colon": b"a" * SIZE,
    "no end of a name": b"a-" * (SIZE // 2),
    "blanks before the value": b"a:" + b" " * SIZE,
    "blanks, then no value": b"a:" + b" \t" * (SIZE // 2) + b"\x00",
    "blanks behind the value": b"a: b" + b" " * SIZE + b"\r\n",
    "colons": b":" * SIZE,
    "colons after a name": b"a" + b":" * SIZE,
    "short fields": b"a:\r\n" * (SIZE // 4),
    "short fields and a bad one": b"a:\r\n" * (SIZE // 4) + b"b\r\n",
    "line ends": b"\r\n" * (SIZE // 2),
    "bare LF": b"\n" * SIZE,
    "bare CR": b"\r" * SIZE,
    "reversed line ends": b"\n\r" * (SIZE // 2),
    "blank lines that are none": b"\r\n\r" * (SIZE // 3),
    "folds": b"a: b\r\n" + b" c\r\n" * (SIZE // 4),
    "names of blanks": b" : b\r\n" * (SIZE // 6),
    "high bytes": b"a: " + b"\xff" * SIZE + b"\r\n",
}


def elapsed_s(work: Callable[..., object], *arguments: object) -> float:
    """The best of a few: what it costs, not what else the machine was doing."""
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(GrammarError):
            work(*arguments)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize("shape", NASTY)
def test_no_head_takes_more_than_linear_time(shape: str) -> None:
    """64 KiB of anything cost less than 50 ms; what backtracks would take seconds."""
    for line in (b"GET / HTTP/1.1\r\n", b"GET /", b"GET ", b"", b"G"):
        assert elapsed_s(parse_request_head, line + NASTY[shape] + b"\r\n\r\n") < 0.05
    for line in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 "):
        assert elapsed_s(parse_response_head, line + NASTY[shape] + b"\r\n\r\n") < 0.05
    assert elapsed_s(parse_fields, b"\n" + NASTY[shape] + b"\r\n", 1) < 0.05


@pytest.mark.parametrize("shape", NASTY)
def test_collecting_costs_the_same_in_small_pieces(shape: str) -> None:
    """64 KiB in 8,192 pieces: what looked at everything again each time would take seconds."""

    def feed() -> None:
        buffer = HeadBuffer(2 * SIZE)
        data = b"A: b\r\n" + NASTY[shape]
        for at in range(0, len(data), 8):
            if buffer.feed(data[at : at + 8]) is not None:
                return

    assert elapsed_s(feed) < 0.2
