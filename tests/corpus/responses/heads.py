"""Status lines and headers of answers."""

from tests.corpus.cases import ResponseCase, answered, bad

RFC_STATUS = "RFC 9112 §4"
RFC_FIELD = "RFC 9112 §5"
RFC_COLON = "RFC 9112 §5.1"
RFC_FOLD = "RFC 9112 §5.2: obs-fold"
RFC_EOL = "RFC 9112 §2.2: bare CR and LF"
RFC_VALUE = "RFC 9110 §5.5"
RFC_HOP = "RFC 9110 §7.6.1"

LENGTH = b"Content-Length: 3\r\n"


NGINX_STATUS = "nginx passes the status line on as it is; we write our own"
NGINX_HTTP_0_9 = (
    "nginx takes an answer without a status line for HTTP/0.9 and passes the bytes on without a head"
)
NGINX_LENIENT = "nginx reads over it, or passes it on; we do not repair what an engine sends"
NGINX_LF = "nginx takes a bare LF for the end of a line"
NGINX_TABS = "nginx trims spaces but no tabs; RFC 9110 §5.5 has both"
NGINX_LIMITS = "nginx bounds the head by the size of its buffer only"


def line(raw: bytes) -> bytes:
    return raw + b"\r\n" + LENGTH + b"\r\nabc"


def header(raw: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + raw + LENGTH + b"\r\nabc"


CASES: tuple[ResponseCase, ...] = (
    answered("plain", line(b"HTTP/1.1 200 OK"), b"abc", source=RFC_STATUS),
    answered("no-reason", line(b"HTTP/1.1 200 "), b"abc", source=RFC_STATUS),
    answered(
        "no-reason-no-space",
        line(b"HTTP/1.1 200"),
        b"abc",
        source="RFC 9112 §4 wants the space; many leave it out",
        nginx=NGINX_STATUS,
    ),
    answered("odd-reason", line(b"HTTP/1.1 200 \xe9 \t !"), b"abc", source=RFC_STATUS),
    answered("unknown-status", line(b"HTTP/1.1 299 X"), b"abc", status=299, source="RFC 9110 §15"),
    answered("status-599", line(b"HTTP/1.1 599 X"), b"abc", status=599, source="RFC 9110 §15"),
    answered("status-404", line(b"HTTP/1.1 404 Not Found"), b"abc", status=404, source="RFC 9110 §15"),
    bad("status-600", line(b"HTTP/1.1 600 X"), source="RFC 9110 §15", nginx=NGINX_STATUS),
    bad("status-099", line(b"HTTP/1.1 099 X"), source="RFC 9110 §15", nginx=NGINX_STATUS),
    bad("status-two-digits", line(b"HTTP/1.1 20 OK"), source=RFC_STATUS, nginx=NGINX_HTTP_0_9),
    bad("status-four-digits", line(b"HTTP/1.1 2000 OK"), source=RFC_STATUS, nginx=NGINX_HTTP_0_9),
    bad("status-plus", line(b"HTTP/1.1 +20 OK"), source=RFC_STATUS, nginx=NGINX_HTTP_0_9),
    bad("status-word", line(b"HTTP/1.1 abc OK"), source=RFC_STATUS, nginx=NGINX_HTTP_0_9),
    bad("two-spaces", line(b"HTTP/1.1  200 OK"), source=RFC_STATUS, nginx=NGINX_LENIENT),
    bad("tab", line(b"HTTP/1.1\t200 OK"), source=RFC_STATUS, nginx=NGINX_HTTP_0_9),
    bad("version-2", line(b"HTTP/2.0 200 OK"), source="RFC 9112 §2.3", nginx=NGINX_LENIENT),
    bad("version-0.9", line(b"HTTP/0.9 200 OK"), source="RFC 9112 §2.3", nginx=NGINX_HTTP_0_9),
    bad("version-lower-case", line(b"http/1.1 200 OK"), source="RFC 9112 §2.3", nginx=NGINX_HTTP_0_9),
    bad(
        "version-of-another-protocol", line(b"RTSP/1.0 200 OK"), source="RFC 9112 §2.3", nginx=NGINX_HTTP_0_9
    ),
    bad("reason-with-nul", line(b"HTTP/1.1 200 O\0K"), source=RFC_STATUS, nginx=NGINX_LENIENT),
    bad("reason-with-cr", line(b"HTTP/1.1 200 O\rK"), source=RFC_EOL, nginx=NGINX_HTTP_0_9),
    bad("no-head-at-all", b"hello\r\n\r\n", source="HTTP/0.9", nginx=NGINX_HTTP_0_9),
    bad(
        "another-protocol",
        b"220 mail.example ESMTP\r\n",
        source="RFC 5321 §4.2",
        close=True,
        nginx=NGINX_HTTP_0_9,
    ),
    bad(
        "crlf-before",
        b"\r\n" + line(b"HTTP/1.1 200 OK"),
        source="RFC 9112 §2.2 allows it for requests only",
        nginx=NGINX_HTTP_0_9,
    ),
    bad("bare-lf-behind-status", b"HTTP/1.1 200 OK\n" + LENGTH + b"\r\nabc", source=RFC_EOL, nginx=NGINX_LF),
    bad("bare-lf-behind-header", header(b"X-V: v\n"), source=RFC_EOL, nginx=NGINX_LF),
    bad("bare-lf-everywhere", b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", source=RFC_EOL, nginx=NGINX_LF),
    bad("bare-cr-behind-header", header(b"X-V: v\r"), source=RFC_EOL),
    # headers
    answered(
        "blanks-around-value",
        header(b"X-V: \t v w\t \r\n"),
        b"abc",
        headers=(("x-v", "v w"),),
        source=RFC_FIELD,
        nginx=NGINX_TABS,
    ),
    answered("empty-value", header(b"X-V:\r\n"), b"abc", headers=(("x-v", ""),), source=RFC_FIELD),
    answered(
        "high-bytes-in-value", header(b"X-V: \xe9\r\n"), b"abc", headers=(("x-v", "\xe9"),), source=RFC_FIELD
    ),
    answered(
        "set-cookie-dropped",
        header(b"Set-Cookie: a=1\r\nX-V: v\r\nSet-Cookie: b=2; Path=/\r\n"),
        b"abc",
        headers=(("x-v", "v"),),
        source="ours: an engine is on a machine of somebody else",
    ),
    answered(
        "repeated-in-order",
        header(b"X-V: 1\r\nx-v: 2\r\nX-V: 1\r\n"),
        b"abc",
        headers=(("x-v", "1"), ("x-v", "2"), ("x-v", "1")),
        source="RFC 9110 §5.3",
    ),
    answered(
        "compressed",
        header(b"Content-Encoding: gzip\r\n"),
        b"abc",
        headers=(("content-encoding", "gzip"),),
        source="RFC 9110 §8.4",
    ),
    answered(
        "hop-by-hop-dropped",
        header(b"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nTrailer: x\r\nX-V: v\r\n"),
        b"abc",
        headers=(("x-v", "v"),),
        absent=("keep-alive", "proxy-authenticate", "trailer"),
        source=RFC_HOP,
    ),
    answered(
        "named-by-connection-dropped",
        header(b"Connection: X-Hop\r\nX-Hop: 1\r\nX-V: v\r\n"),
        b"abc",
        headers=(("x-v", "v"),),
        absent=("x-hop",),
        source=RFC_HOP,
    ),
    answered(
        "upgrade-nobody-asked-for",
        header(b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
        b"abc",
        absent=("upgrade",),
        source="RFC 9110 §7.8",
    ),
    bad("space-before-colon", header(b"X-V : v\r\n"), source=RFC_COLON),
    bad("no-colon", header(b"X-V\r\n"), source=RFC_FIELD, nginx=NGINX_LENIENT),
    bad("empty-name", header(b": v\r\n"), source=RFC_FIELD),
    bad("space-in-name", header(b"X V: v\r\n"), source=RFC_FIELD),
    bad("nul-in-name", header(b"X\0V: v\r\n"), source=RFC_FIELD),
    bad("nul-in-value", header(b"X-V: a\0b\r\n"), source=RFC_VALUE),
    bad("control-in-value", header(b"X-V: a\x01b\r\n"), source=RFC_VALUE, nginx=NGINX_LENIENT),
    bad("cr-in-value", header(b"X-V: a\rb\r\n"), source=RFC_VALUE),
    bad("fold-with-space", header(b"X-V: a\r\n b\r\n"), source=RFC_FOLD),
    bad("fold-with-tab", header(b"X-V: a\r\n\tb\r\n"), source=RFC_FOLD),
    bad(
        "fold-of-first-line", b"HTTP/1.1 200 OK\r\n X-V: v\r\n" + LENGTH + b"\r\nabc", source="RFC 9112 §2.2"
    ),
    bad("folded-length", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 3\r\n\r\nabc", source=RFC_FOLD),
    bad(
        "space-before-colon-of-length", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", source=RFC_COLON
    ),
    bad("header-too-long", header(b"X-V: " + b"v" * 70_000 + b"\r\n"), source="our limit: 64 KiB"),
    bad("too-many-headers", header(b"X-V: v\r\n" * 201), source="our limit: 200", nginx=NGINX_LIMITS),
    bad("head-cut", b"HTTP/1.1 200 OK\r\nContent-Le", source="RFC 9112 §8", close=True),
    bad(
        "head-cut-before-blank-line",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
        source="RFC 9112 §8",
        close=True,
    ),
)
