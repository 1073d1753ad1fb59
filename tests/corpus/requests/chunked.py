"""Chunks: sizes, extensions, ends of lines, trailers."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_CHUNKED = "RFC 9112 §7.1"
RFC_EXTENSION = "RFC 9112 §7.1.1"
RFC_TRAILER = "RFC 9112 §7.1.2"
FUNKY = "Weikop, Funky chunks, 2025"
TRAILING = "sebsrt, Trailing Danger, 2025"

NGINX_ZEROS = "nginx reads zeros without end; a size of more than 15 digits is a mistake or a trick"
NGINX_BLANK = "nginx takes blanks behind a size; RFC 9112 has none there"
NGINX_LF = "nginx takes a bare LF for the end of a chunk's line; RFC 9112 does not allow that"
NGINX_EXTENSION = "nginx reads over anything up to the next LF as an extension"

END = b"0\r\n\r\n"
ABC = Seen("POST", "/a", b"abc")


NGINX_ENDLESS = "nginx reads extensions and trailers of any length; they cost time and hold nothing"
NGINX_TRAILER = "nginx reads over trailers without looking; a request line that hides there is no trailer"


def chunks(body: bytes) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def first(raw: bytes) -> bytes:
    """The line of the first chunk's size."""
    return chunks(raw + b"abc\r\n" + END)


CASES: tuple[RequestCase, ...] = (
    passed("two", chunks(b"3\r\nabc\r\n2\r\nde\r\n" + END), Seen("POST", "/a", b"abcde"), source=RFC_CHUNKED),
    passed(
        "hexadecimal",
        chunks(b"1A\r\n" + b"x" * 26 + b"\r\n0b\r\n" + b"y" * 11 + b"\r\n" + END),
        Seen("POST", "/a", b"x" * 26 + b"y" * 11),
        source=RFC_CHUNKED,
    ),
    passed("leading-zeros", first(b"003\r\n"), ABC, source=RFC_CHUNKED),
    passed("last-of-many-zeros", chunks(b"3\r\nabc\r\n00000\r\n\r\n"), ABC, source=RFC_CHUNKED),
    passed(
        "any-bytes",
        chunks(b"8\r\n\0\xff\r\n0\r\n\r\r\n" + END),
        Seen("POST", "/a", b"\0\xff\r\n0\r\n\r"),
        source=RFC_CHUNKED,
    ),
    passed(
        "data-that-looks-like-an-end",
        chunks(b"7\r\n\r\n0\r\n\r\n\r\n" + END),
        Seen("POST", "/a", b"\r\n0\r\n\r\n"),
        source=RFC_CHUNKED,
    ),
    refused("size-prefix-0x", first(b"0x3\r\n"), source=RFC_CHUNKED),
    refused("size-plus", first(b"+3\r\n"), source="int() of some languages takes it"),
    refused("size-minus", first(b"-3\r\n"), source="int() of some languages takes it"),
    refused("size-underscore", first(b"0_3\r\n"), source="int() of Python takes it"),
    refused("size-blank-before", first(b" 3\r\n"), source=RFC_CHUNKED),
    refused("size-tab-before", first(b"\t3\r\n"), source=RFC_CHUNKED),
    refused("size-blank-behind", first(b"3 \r\n"), source=RFC_CHUNKED, nginx=NGINX_BLANK),
    refused("size-tab-behind", first(b"3\t\r\n"), source=RFC_CHUNKED, nginx=NGINX_BLANK),
    refused("size-empty", first(b"\r\n"), source=RFC_CHUNKED),
    refused("size-word", first(b"g\r\n"), source=RFC_CHUNKED),
    refused("size-quoted", first(b'"3"\r\n'), source=RFC_CHUNKED),
    refused("size-comma", first(b"3,3\r\n"), source=RFC_CHUNKED),
    refused("size-nul-behind", first(b"3\0\r\n"), source=RFC_CHUNKED),
    refused("size-high-byte", first(b"3\xa0\r\n"), source=RFC_CHUNKED),
    refused(
        "size-overflow", first(b"FFFFFFFFFFFFFFFF0\r\n"), source="RFC 9112 §7.1: anticipate large numbers"
    ),
    refused(
        "size-overflow-to-three",
        first(b"10000000000000003\r\n"),
        source="RFC 9112 §7.1: anticipate large numbers",
    ),
    RequestCase(
        "size-overflow-32-bit",
        first(b"100000003\r\n"),
        (),
        (),
        False,
        "RFC 9112 §7.1: anticipate large numbers",
        fin=True,
        nginx="nginx refuses a chunk by its announced size; we count what comes, and the client leaves before",
    ),
    refused("size-64-bits", first(b"FFFFFFFFFFFFFFFF\r\n"), source="RFC 9112 §7.1: anticipate large numbers"),
    refused("size-63-bits", first(b"7FFFFFFFFFFFFFFF\r\n"), source="RFC 9112 §7.1: anticipate large numbers"),
    refused("size-zeros-endless", first(b"0" * 20 + b"3\r\n"), source=RFC_CHUNKED, nginx=NGINX_ZEROS),
    refused("size-line-lf", first(b"3\n"), source=FUNKY, nginx=NGINX_LF),
    refused("size-line-cr", first(b"3\r"), source=FUNKY),
    refused("size-line-cr-and-byte", first(b"3\rX"), source=FUNKY),
    refused("size-line-cr-cr-lf", first(b"3\r\r\n"), source=FUNKY),
    refused("last-size-line-lf", chunks(b"3\r\nabc\r\n0\n\r\n"), source=FUNKY, nginx=NGINX_LF),
    refused("end-lf", chunks(b"3\r\nabc\r\n0\r\n\n"), source=FUNKY, nginx=NGINX_LF),
    refused("end-cr-and-byte", chunks(b"3\r\nabc\r\n0\r\n\rX\r\n\r\n"), source=FUNKY),
    refused("data-without-end", chunks(b"3\r\nabc" + END), source=FUNKY),
    refused("data-end-lf", chunks(b"3\r\nabc\n" + END), source=FUNKY, nginx=NGINX_LF),
    refused("data-end-cr", chunks(b"3\r\nabc\r" + END), source=FUNKY),
    refused("data-end-two-bytes", chunks(b"3\r\nabcXX" + END), source=FUNKY),
    refused("data-too-long", chunks(b"3\r\nabcd\r\n" + END), source=RFC_CHUNKED),
    refused("data-too-short", chunks(b"4\r\nabc\r\n" + END), source=RFC_CHUNKED, nginx=NGINX_LF),
    refused(
        "last-data-without-end",
        chunks(b"2\r\nabX\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"),
        source=FUNKY,
    ),
    # extensions
    passed("extension", first(b"3;a=b\r\n"), ABC, source=RFC_EXTENSION),
    passed("extension-quoted", first(b'3;a="b;c"\r\n'), ABC, source=RFC_EXTENSION),
    passed("extension-blanks", first(b"3 ; a = b\r\n"), ABC, source=RFC_EXTENSION),
    passed("extension-of-last", chunks(b"3\r\nabc\r\n0;a=b\r\n\r\n"), ABC, source=RFC_EXTENSION),
    passed(
        "extension-empty", first(b"3;\r\n"), ABC, source=FUNKY + " (harmless when the line ends with CRLF)"
    ),
    refused("extension-lf", first(b"3;\n"), source="TERM.EXT: " + FUNKY, nginx=NGINX_LF),
    refused("extension-name-lf", first(b"3;a\n"), source="TERM.EXT: " + FUNKY, nginx=NGINX_LF),
    refused(
        "extension-of-last-lf", chunks(b"3\r\nabc\r\n0;\n\r\n"), source="TERM.EXT: " + FUNKY, nginx=NGINX_LF
    ),
    refused("extension-lf-inside", first(b"3;a\nb\r\n"), source="TERM.EXT: " + FUNKY, nginx=""),
    refused("extension-cr-inside", first(b"3;a\rb\r\n"), source=FUNKY, nginx=""),
    refused("extension-nul", first(b"3;a\0b\r\n"), source=FUNKY, nginx=NGINX_EXTENSION),
    refused("extension-quoted-lf", first(b'3;a="\n"\r\n'), source=FUNKY),
    refused("extension-quoted-crlf", first(b'3;a="\r\n"\r\n'), source=FUNKY),
    refused(
        "extension-hides-chunks",
        chunks(b"2;\nxx\r\n4c\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\nX: x\r\n\r\n0\r\n\r\n"),
        source="TERM.EXT: " + FUNKY,
    ),
    refused("extension-without-semicolon", first(b"3 a=b\r\n"), source=RFC_EXTENSION, nginx=NGINX_EXTENSION),
    refused(
        "extension-endless",
        first(b"3;" + b"a" * 20_000 + b"\r\n"),
        source="CVE-2023-39326; RFC 9112 §7.1.1: limit the length",
        nginx=NGINX_ENDLESS,
    ),
    # trailers
    passed("trailer-dropped", chunks(b"3\r\nabc\r\n0\r\nX-T: t\r\n\r\n"), ABC, source=RFC_TRAILER),
    passed(
        "trailers-that-pretend",
        chunks(b"3\r\nabc\r\n0\r\nHost: y\r\nAuthorization: Bearer y\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"),
        ABC,
        source=TRAILING,
    ),
    passed(
        "trailer-content-length",
        chunks(b"3\r\nabc\r\n0\r\nContent-Length: 30\r\n\r\n"),
        ABC,
        source=TRAILING,
    ),
    passed(
        "trailer-transfer-encoding",
        chunks(b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ABC,
        source=TRAILING,
    ),
    refused(
        "trailer-folded",
        chunks(b"3\r\nabc\r\n0\r\nX-T: t\r\n u\r\n\r\n"),
        source="RFC 9112 §5.2: obs-fold",
        nginx=NGINX_TRAILER,
    ),
    refused("trailer-lf", chunks(b"3\r\nabc\r\n0\r\nX-T: t\n\r\n"), source=RFC_TRAILER, nginx=NGINX_LF),
    refused(
        "trailer-without-colon",
        chunks(b"3\r\nabc\r\n0\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"),
        source=TRAILING,
        nginx=NGINX_TRAILER,
    ),
    refused(
        "trailer-blank-before-colon",
        chunks(b"3\r\nabc\r\n0\r\nX-T : t\r\n\r\n"),
        source=RFC_TRAILER,
        nginx=NGINX_TRAILER,
    ),
    refused(
        "trailer-nul", chunks(b"3\r\nabc\r\n0\r\nX-T: t\0\r\n\r\n"), source=RFC_TRAILER, nginx=NGINX_TRAILER
    ),
    refused(
        "trailers-endless",
        chunks(b"3\r\nabc\r\n0\r\n" + b"X-T: t\r\n" * 4000 + b"\r\n"),
        source="RFC 9112 §7.1.2: limit the length",
        nginx=NGINX_ENDLESS,
    ),
)
