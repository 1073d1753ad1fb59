"""Where the body of an answer ends: lengths, chunks, the end of the connection, and none of these twice."""

from tests.corpus.cases import ResponseCase, answered, bad, cut_short

RFC_LENGTH = "RFC 9112 §6.3"
RFC_BOTH = "RFC 9112 §6.3: Transfer-Encoding and Content-Length"
RFC_CHUNKED = "RFC 9112 §7.1"
RFC_TRAILER = "RFC 9112 §7.1.2"
RFC_INCOMPLETE = "RFC 9112 §8"
FUNKY = "Weikop, Funky chunks, 2025"
KETTLE_2025 = "Kettle, HTTP/1.1 Must Die, 2025"
DEXTER = "Linhart et al., HTTP Request Smuggling, 2005: an answer too many"

NGINX_LENIENT = "nginx reads it; we do not repair what an engine sends"
NGINX_LF = "nginx takes a bare LF for the end of a line"

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


NGINX_UNTIL_CLOSE = (
    "nginx takes a length or coding that it cannot read for none, and waits for the end of the connection"
)
NGINX_TWICE = "nginx takes the last length, or the coding before any length; newer versions refuse as we do"
NGINX_CODINGS = 'nginx looks for the letters "chunked" in the codings'
NGINX_1_0 = "nginx reads chunks of HTTP/1.0 as well; RFC 9112 §6.1 calls the framing faulty"
NGINX_CLEAN_END = "nginx ends a broken answer to an HTTP/1.0 client like a whole one; we reset the connection"


def length(value: bytes, body: bytes = b"abc") -> bytes:
    return OK + b"Content-Length: " + value + b"\r\n\r\n" + body


def coding(value: bytes, body: bytes = b"3\r\nabc\r\n0\r\n\r\n") -> bytes:
    return OK + b"Transfer-Encoding: " + value + b"\r\n\r\n" + body


CASES: tuple[ResponseCase, ...] = (
    # a length
    answered("length", length(b"3"), b"abc", headers=(("content-length", "3"),), source=RFC_LENGTH),
    answered("length-zero", length(b"0", b""), source=RFC_LENGTH),
    answered("length-with-blanks", length(b" \t3"), b"abc", source="RFC 9110 §5.5", nginx=NGINX_UNTIL_CLOSE),
    answered("length-any-bytes", length(b"6", b"\0\xff\r\n\r\n"), b"\0\xff\r\n\r\n", source=RFC_LENGTH),
    bad("length-plus", length(b"+3"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-minus", length(b"-3"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-hexadecimal", length(b"0x3"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-word", length(b"three"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-empty", length(b""), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-two-in-one", length(b"3, 4"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-blank-inside", length(b"3 3"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad("length-overflow", length(b"18446744073709551619"), source=RFC_LENGTH, nginx=NGINX_UNTIL_CLOSE),
    bad(
        "length-twice-different",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        source=RFC_LENGTH,
        nginx=NGINX_TWICE,
    ),
    bad(
        "length-twice-the-same",
        OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        source=RFC_LENGTH,
        nginx=NGINX_TWICE,
    ),
    # chunks
    answered(
        "chunked", coding(b"chunked"), b"abc", headers=(("transfer-encoding", "chunked"),), source=RFC_CHUNKED
    ),
    answered("chunked-any-case", coding(b"CHUNKED"), b"abc", source="RFC 9112 §7"),
    answered("chunked-two", CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n" + END, b"abcd", source=RFC_CHUNKED),
    answered("chunked-empty", CHUNKED + END, source=RFC_CHUNKED),
    answered(
        "chunked-hexadecimal", CHUNKED + b"1A\r\n" + b"x" * 26 + b"\r\n" + END, b"x" * 26, source=RFC_CHUNKED
    ),
    answered("chunked-extension", CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n", b"abc", source="RFC 9112 §7.1.1"),
    answered(
        "chunked-looks-like-an-end",
        CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n" + END,
        b"\r\n0\r\n\r\n",
        source=RFC_CHUNKED,
    ),
    answered(
        "trailer-dropped",
        CHUNKED + b"3\r\nabc\r\n0\r\nX-T: t\r\n\r\n",
        b"abc",
        absent=("x-t",),
        source=RFC_TRAILER,
    ),
    answered(
        "trailer-for-who-takes-it",
        CHUNKED + b"3\r\nabc\r\n0\r\nX-T: t\r\n\r\n",
        b"abc",
        request=(("Host", "x"), ("TE", "trailers"), ("Connection", "TE")),
        source="RFC 9110 §6.5",
    ),
    bad("chunked-then-identity", coding(b"chunked, identity"), source="RFC 9112 §6.1", nginx=NGINX_CODINGS),
    bad("xchunked", coding(b"xchunked"), source="RFC 9112 §6.1", nginx=NGINX_CODINGS),
    bad("gzip-then-chunked", coding(b"gzip, chunked"), source="RFC 9112 §6.1", nginx=NGINX_CODINGS),
    bad(
        "identity",
        coding(b"identity", b"abc"),
        source="RFC 9112 §7: identity was removed",
        nginx=NGINX_UNTIL_CLOSE,
    ),
    bad(
        "coding-twice",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
        source="RFC 9112 §7.1",
        nginx=NGINX_TWICE,
    ),
    bad("coding-empty", coding(b""), source="RFC 9112 §6.1", nginx=NGINX_UNTIL_CLOSE),
    bad(
        "coding-and-length",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + END,
        source=RFC_BOTH,
        nginx=NGINX_TWICE,
    ),
    bad(
        "length-after-coding",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n" + END,
        source=RFC_BOTH,
        nginx=NGINX_TWICE,
    ),
    bad(
        "coding-of-http-1.0",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + END,
        source="RFC 9112 §6.1",
        nginx=NGINX_1_0,
    ),
    # the end of the connection
    answered("until-close", OK + b"\r\nabc", b"abc", close=True, source=RFC_LENGTH),
    answered("until-close-empty", OK + b"\r\n", close=True, source=RFC_LENGTH),
    answered("until-close-http-1.0", b"HTTP/1.0 200 OK\r\n\r\nabc", b"abc", close=True, source=RFC_LENGTH),
    answered(
        "until-close-for-http-1.0",
        OK + b"\r\nabc",
        b"abc",
        close=True,
        version="1.0",
        kept=False,
        source=RFC_LENGTH,
    ),
    # clients of HTTP/1.0 never get chunks
    answered(
        "chunked-for-http-1.0",
        coding(b"chunked"),
        b"abc",
        version="1.0",
        kept=False,
        absent=("transfer-encoding",),
        source="RFC 9112 §6.1",
    ),
    answered(
        "chunked-for-http-1.0-keep-alive",
        coding(b"chunked"),
        b"abc",
        version="1.0",
        request=(("Connection", "keep-alive"),),
        kept=False,
        absent=("transfer-encoding",),
        source="RFC 9112 §6.1",
    ),
    answered(
        "length-for-http-1.0-keep-alive",
        length(b"3"),
        b"abc",
        version="1.0",
        request=(("Connection", "keep-alive"),),
        headers=(("connection", "keep-alive"),),
        source="RFC 9112 §9.3",
    ),
    # who keeps the connection
    answered(
        "close-announced",
        OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"abc",
        absent=("connection",),
        reused=False,
        source="RFC 9112 §9.6",
    ),
    answered(
        "http-1.0-without-keep-alive",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"abc",
        reused=False,
        source="RFC 9112 §9.3",
    ),
    answered(
        "http-1.0-with-keep-alive",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        b"abc",
        source="RFC 9112 §9.3",
    ),
    answered("bytes-behind-the-end", length(b"3", b"abcdef"), b"abc", reused=False, source=DEXTER),
    answered(
        "bytes-behind-chunks",
        coding(b"chunked", b"3\r\nabc\r\n0\r\n\r\nX"),
        b"abc",
        reused=False,
        source=DEXTER,
    ),
    answered(
        "an-answer-too-many", length(b"3") + length(b"6", b"poison"), b"abc", reused=False, source=DEXTER
    ),
    answered(
        "an-interim-answer-too-many",
        length(b"3") + b"HTTP/1.1 100 Continue\r\n\r\n",
        b"abc",
        reused=False,
        source=KETTLE_2025,
    ),
    # cut short: never complete
    cut_short("length-cut", length(b"10"), b"abc", source=RFC_INCOMPLETE),
    cut_short("length-cut-at-once", length(b"10", b""), b"", source=RFC_INCOMPLETE),
    cut_short("chunk-cut", CHUNKED + b"a\r\nabc", b"abc", source=RFC_INCOMPLETE),
    cut_short("chunk-size-cut", CHUNKED + b"3\r\nabc\r\n1", b"abc", source=RFC_INCOMPLETE),
    cut_short("chunk-cut-before-the-last", CHUNKED + b"3\r\nabc\r\n", b"abc", source=RFC_INCOMPLETE),
    cut_short("last-chunk-cut", CHUNKED + b"3\r\nabc\r\n0\r\n", b"abc", source=RFC_INCOMPLETE),
    cut_short("trailer-cut", CHUNKED + b"3\r\nabc\r\n0\r\nX-T: t\r\n", b"abc", source=RFC_INCOMPLETE),
    cut_short(
        "chunk-cut-for-http-1.0",
        CHUNKED + b"3\r\nabc\r\n",
        b"abc",
        version="1.0",
        source=RFC_INCOMPLETE,
        nginx=NGINX_CLEAN_END,
    ),
)
