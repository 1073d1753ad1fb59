"""Chunks that are none. What came before them has gone out already, so the client must see a broken answer."""

from tests.corpus.cases import ResponseCase, bad_after

RFC_CHUNKED = "RFC 9112 §7.1"
FUNKY = "Weikop, Funky chunks, 2025"

NGINX_BLANK = "nginx takes blanks behind a size"
NGINX_LF = "nginx takes a bare LF for the end of a chunk's line"
NGINX_EXTENSION = "nginx reads over anything up to the next LF as an extension"

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE = b"3\r\nabc\r\n"
END = b"0\r\n\r\n"


NGINX_TRAILER = "nginx reads over trailers without looking"


def second(line: bytes) -> bytes:
    """A good chunk, then one with this line of its size."""
    return HEAD + ONE + line + b"def\r\n" + END


CASES: tuple[ResponseCase, ...] = (
    bad_after("size-prefix-0x", second(b"0x3\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-plus", second(b"+3\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-underscore", second(b"0_3\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-blank-before", second(b" 3\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-blank-behind", second(b"3 \r\n"), b"abc", source=RFC_CHUNKED, nginx=NGINX_BLANK),
    bad_after("size-word", second(b"g\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-empty", second(b"\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-overflow", second(b"FFFFFFFFFFFFFFFF0\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-64-bits", second(b"FFFFFFFFFFFFFFFF\r\n"), b"abc", source=RFC_CHUNKED),
    bad_after("size-line-lf", second(b"3\n"), b"abc", source=FUNKY, nginx=NGINX_LF),
    bad_after("size-line-cr", second(b"3\r"), b"abc", source=FUNKY),
    bad_after("extension-lf", second(b"3;\n"), b"abc", source=FUNKY, nginx=NGINX_LF),
    bad_after("extension-cr", second(b"3;a\rb\r\n"), b"abc", source=FUNKY),
    bad_after("extension-nul", second(b"3;a\0b\r\n"), b"abc", source=FUNKY, nginx=NGINX_EXTENSION),
    bad_after(
        "extension-endless",
        second(b"3;" + b"a" * 20_000 + b"\r\n"),
        b"abc",
        source="CVE-2023-39326",
        nginx=NGINX_EXTENSION,
    ),
    bad_after("data-without-end", HEAD + b"3\r\nabc" + END, b"abc", source=FUNKY),
    bad_after("data-end-lf", HEAD + b"3\r\nabc\n" + END, b"abc", source=FUNKY, nginx=NGINX_LF),
    bad_after("data-too-long", HEAD + b"3\r\nabcd\r\n" + END, b"abc", source=RFC_CHUNKED),
    bad_after("end-lf", HEAD + ONE + b"0\r\n\n", b"abc", source=FUNKY, nginx=NGINX_LF),
    bad_after("last-size-line-lf", HEAD + ONE + b"0\n\r\n", b"abc", source=FUNKY, nginx=NGINX_LF),
    bad_after(
        "trailer-folded",
        HEAD + ONE + b"0\r\nX-T: t\r\n u\r\n\r\n",
        b"abc",
        source="RFC 9112 §5.2",
        nginx=NGINX_TRAILER,
    ),
    bad_after(
        "trailer-without-colon",
        HEAD + ONE + b"0\r\nX-T\r\n\r\n",
        b"abc",
        source="RFC 9112 §7.1.2",
        nginx=NGINX_TRAILER,
    ),
    bad_after(
        "trailers-endless",
        HEAD + ONE + b"0\r\n" + b"X-T: t\r\n" * 4000 + b"\r\n",
        b"abc",
        source="RFC 9112 §7.1.2",
        nginx=NGINX_TRAILER,
    ),
)
