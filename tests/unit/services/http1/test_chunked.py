"""Chunked bodies: whatever the pieces, the same body, the same end, the same refusals."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.http1.chunked import MAX_SIZE_LINE_BYTES, MAX_TRAILER_BYTES, ChunkedReader
from vastproxy.services.http1.grammar import GrammarError, Header
from vastproxy.services.http1.headers import LAST_CHUNK, chunk, last_chunk


def read(data: bytes, cuts: list[int]) -> tuple[bytes, ChunkedReader, bytes]:
    """The body, the reader, and what came behind the body, of `data` in pieces of these sizes."""
    reader = ChunkedReader()
    body, position = b"", 0
    for size in [*cuts, len(data)]:
        piece = data[position : position + size]
        position += size
        if piece:
            body += reader.feed(piece)
        if reader.done:
            return body, reader, reader.rest + data[position:]
    return body, reader, b""


def refused(data: bytes, cuts: list[int]) -> bool:
    try:
        read(data, cuts)
    except GrammarError:
        return True
    return False


CUTS = st.lists(st.integers(1, 30), max_size=40)
TRAILERS = st.lists(
    st.tuples(st.sampled_from([b"a", b"x-sum"]), st.sampled_from([b"", b"1", b"a b"])), max_size=3
)


@given(st.lists(st.binary(max_size=70)), TRAILERS, st.binary(max_size=20), CUTS)
def test_what_is_written_is_read_in_any_pieces(
    pieces: list[bytes], trailers: list[Header], behind: bytes, cuts: list[int]
) -> None:
    data = b"".join(map(chunk, pieces)) + last_chunk(trailers) + behind
    for sizes in (cuts, [], [1] * len(data)):
        body, reader, rest = read(data, sizes)
        assert body == b"".join(pieces)
        assert reader.done
        assert reader.trailers == trailers
        assert rest == behind


@given(st.lists(st.binary(min_size=1, max_size=70)))
def test_one_chunk_in_one_piece_comes_out_in_one_piece(pieces: list[bytes]) -> None:
    """That is how tokens of a stream arrive: none is held back, none is joined with another."""
    reader = ChunkedReader()
    assert [reader.feed(chunk(piece)) for piece in pieces] == pieces
    assert reader.feed(LAST_CHUNK) == b""
    assert reader.done


@given(st.binary(min_size=1, max_size=200), CUTS)
def test_a_body_cut_short_has_no_end(body: bytes, cuts: list[int]) -> None:
    data = chunk(body[: len(body) // 2]) + chunk(body[len(body) // 2 :]) + LAST_CHUNK
    for end in range(len(data)):
        part, reader, _ = read(data[:end], cuts)
        assert not reader.done
        assert body.startswith(part)


@pytest.mark.parametrize(
    "data",
    [
        b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b'5\t ; a = "b;c" ; d\r\nhello\r\n0\r\n\r\n',
        b"005\r\nhello\r\n000\r\n\r\n",
        b"000000000000005\r\nhello\r\n0\r\n\r\n",
        b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"5;" + b"x" * (MAX_SIZE_LINE_BYTES - 4) + b"\r\nhello\r\n0\r\n\r\n",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_forms_of_the_same_body(data: bytes) -> None:
    for size in (1, 2, 3, 7, len(data)):
        body, reader, _ = read(data, [size] * len(data))
        assert body == b"hello"
        assert reader.done


def test_sizes_are_hexadecimal_in_both_cases() -> None:
    for digits in (b"1a", b"1A"):
        assert read(digits + b"\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", [])[0] == b"x" * 26


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"0x5\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5,5\r\n",
        b"5 5\r\n",
        b"5\n",
        b"5\rhello",
        b"5\r\r\n",
        b";a\r\n",
        b"5;\x00\r\n",
        b"5;a\rb\r\n",
        b"5;\x7f\r\n",
        b"1234567890123456\r\n",
        b"0000000000000000\r\n",
        b"fffffffffffffffff\r\n",
        b"\xd9\xa5\r\n",  # a five, in Arabic
        b"5;" + b"x" * (MAX_SIZE_LINE_BYTES - 3) + b"\r\n",
        b"5;" + b"x" * MAX_SIZE_LINE_BYTES,
    ],
    ids=lambda data: repr(data[:24]),
)
@pytest.mark.parametrize("size", [1, 2, 5, 10_000])
@pytest.mark.parametrize("before", [b"", b"3\r\nabc\r\n"])
def test_a_malformed_size_is_refused_in_any_pieces(data: bytes, size: int, before: bytes) -> None:
    assert refused(before + data + b"hello\r\n0\r\n\r\n", [size] * 5000)


@pytest.mark.parametrize("end", [b"X\r\n", b"\n", b"\r", b"\rX", b"\n\r", b" \r\n", b"0\r\n", b"\r\r\n"])
@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_a_chunk_ends_where_its_size_says(end: bytes, size: int) -> None:
    assert refused(b"5\r\nhello" + end + b"0\r\n\r\n", [size] * 100)


@pytest.mark.parametrize(
    "lines",
    [
        b"a : b\r\n",
        b" a: b\r\n",
        b"a\r\n",
        b"a: b\n",
        b"a: b\nc: d\r\n",
        b"a: \x00\r\n",
        b"a: b\r\n c\r\n",
        b"\n",
    ],
)
@pytest.mark.parametrize("size", [1, 2, 10_000])
def test_trailers_are_read_as_strictly_as_headers(lines: bytes, size: int) -> None:
    assert refused(b"0\r\n" + lines + b"\r\n", [size] * 100)


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_trailers_are_bounded(size: int) -> None:
    """The most that passes passes, a byte more does not, and nothing more is waited for."""
    fill = MAX_TRAILER_BYTES - len(b"\na: \r\n\r\n")
    whole = b"0\r\na: " + b"x" * fill + b"\r\n\r\n"
    assert read(whole, [size] * len(whole))[1].trailers == [(b"a", b"x" * fill)]
    longer = b"0\r\na: x" + b"x" * fill + b"\r\n\r\n"
    assert refused(longer, [size] * len(longer))
    assert refused(b"0\r\na: " + b"x" * MAX_TRAILER_BYTES, [size] * len(longer))


@pytest.mark.parametrize(
    "data",
    [
        b"1\r\nx\r\n" * 10_000,
        b"1;" + b" " * 1000 + b"\r\nx\r\n",
        b"0\r\n" + b"a:\r\n" * 4_000,
        b"5;" + b";" * 1000,
        b" \t" * 30_000,
    ],
    ids=lambda data: repr(data[:12]),
)
@pytest.mark.parametrize("size", [1, 64 * 1024])
def test_no_shape_is_expensive(data: bytes, size: int) -> None:
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        refused(data, [size] * (len(data) // size))
        best = min(best, time.thread_time() - began)
    assert best < 0.5
