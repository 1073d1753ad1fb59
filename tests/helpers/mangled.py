"""Strategies: messages of the corpus with a few bytes wrong, and any way to cut bytes into pieces."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import strategies as st

#: What framing turns on, and what parsers stumble over.
FRAGMENTS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\n\n",
        b"\r\r\n",
        b" ",
        b"\t",
        b"\x0b",
        b"\0",
        b"\x7f",
        b"\xa0",
        b"\xff",
    ),
    *(b":", b";", b",", b'"', b"#", b"0", b"1", b"00", b"a", b"F", b"+", b"-", b"_", b"0x", b"chunked", b"x"),
    *(b"0\r\n\r\n", b"3\r\nabc\r\n", b"3;a=b\r\n", b"0\r\nX: y\r\n\r\n", b"FFFFFFFFFFFFFFFF", b"100000000"),
    *(b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n"),
    *(
        b"Connection: close\r\n",
        b"X-V: v\r\n",
        b" folded\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: x\r\n",
    ),
    *(
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HTTP/1.2",
        b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HTTP/1.1 100 X\r\n\r\n",
    ),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 X\r\n\r\n", b"http://y/", b"%00", b"/../", b"*"),
)


@st.composite
def mangled(draw: st.DrawFn, messages: Sequence[bytes], *, most: int = 3) -> bytes:
    """One to `most` messages behind each other, with up to four changes of a few bytes."""
    data = b"".join(draw(st.lists(st.sampled_from(messages), min_size=1, max_size=most)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from((0, 0, 1, 1, 2, 5)))
        new = draw(st.one_of(st.just(b""), st.sampled_from(FRAGMENTS), st.binary(max_size=3)))
        data = data[:at] + new + data[at + gone :]
    return data


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in pieces, none of them empty."""
    if draw(st.booleans()) and len(data) < 400:
        return [data[n : n + 1] for n in range(len(data))]
    places = draw(st.lists(st.integers(1, max(len(data) - 1, 1)), max_size=6))
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]
