"""Header lines: what a name and a value may be, and how a line ends."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_FIELD = "RFC 9112 §5"
RFC_COLON = "RFC 9112 §5.1: no whitespace before the colon"
RFC_FOLD = "RFC 9112 §5.2: obs-fold"
RFC_VALUE = "RFC 9110 §5.5: CR, LF, NUL"
RFC_CONTROL = "RFC 9110 §5.5: other control characters"
RFC_NAME = "RFC 9110 §5.1: a name is a token"
RFC_EOL = "RFC 9112 §2.2: bare CR and LF"
RFC_HOP = "RFC 9110 §7.6.1"

NGINX_DROPS = (
    "nginx drops the line (ignore_invalid_headers) and serves the rest; we serve nothing that is malformed"
)
NGINX_LF = "nginx takes a bare LF for the end of a line, as RFC 9112 allows; half of all smuggling needs that"
NGINX_CONTROL = "nginx passes control characters in values on; RFC 9110 lets us refuse them"


NGINX_TABS = "nginx trims spaces but no tabs; RFC 9110 §5.5 has both"
NGINX_CREDENTIALS = "nginx passes them on, as its upstream is the operator's own machine; an engine's is not"
NGINX_NO_COLON = "nginx takes a line without a colon for an empty header"


def with_line(line: bytes) -> bytes:
    return b"GET /a HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n"


def value(raw: bytes) -> bytes:
    return with_line(b"X-V: " + raw + b"\r\n")


CASES: tuple[RequestCase, ...] = (
    passed("plain", value(b"v"), Seen("GET", "/a", headers=(("x-v", "v"),)), source=RFC_FIELD),
    passed(
        "blanks-around-value",
        value(b" \t v w \t "),
        Seen("GET", "/a", headers=(("x-v", "v w"),)),
        source=RFC_FIELD,
        nginx=NGINX_TABS,
    ),
    passed("no-blank", with_line(b"X-V:v\r\n"), Seen("GET", "/a", headers=(("x-v", "v"),)), source=RFC_FIELD),
    passed("empty-value", value(b""), Seen("GET", "/a", headers=(("x-v", ""),)), source=RFC_FIELD),
    passed("tab-in-value", value(b"a\tb"), Seen("GET", "/a", headers=(("x-v", "a\tb"),)), source=RFC_FIELD),
    passed(
        "high-bytes-in-value",
        value(b"\xe9\xff"),
        Seen("GET", "/a", headers=(("x-v", "\xe9\xff"),)),
        source=RFC_FIELD,
    ),
    passed(
        "colons-in-value", value(b"a:b: c"), Seen("GET", "/a", headers=(("x-v", "a:b: c"),)), source=RFC_FIELD
    ),
    passed(
        "repeated-in-order",
        with_line(b"X-V: 1\r\nX-W: 2\r\nx-v: 3\r\n"),
        Seen("GET", "/a", headers=(("x-v", "1"), ("x-w", "2"), ("x-v", "3"))),
        source="RFC 9110 §5.3",
    ),
    passed(
        "credentials-dropped",
        with_line(b"Cookie: a=1; b=2\r\nX-API-Key: k\r\nAPI-Key: k\r\nX-V: v\r\n"),
        Seen("GET", "/a", headers=(("x-v", "v"),)),
        source="ours: an engine is on a machine of somebody else",
        nginx=NGINX_CREDENTIALS,
    ),
    passed(
        "odd-name",
        with_line(b"X!#$%&'*+.^`|~9: v\r\n"),
        Seen("GET", "/a", headers=(("x!#$%&'*+.^`|~9", "v"),)),
        source=RFC_NAME,
        nginx=NGINX_DROPS,
    ),
    passed(
        "underscore-in-name",
        with_line(b"X_V: v\r\n"),
        Seen("GET", "/a", headers=(("x_v", "v"),)),
        source=RFC_NAME,
        nginx="nginx drops names with underscores, for CGI's sake; it is a valid token and engines' clients send such",
    ),
    refused("space-before-colon", with_line(b"X-V : v\r\n"), source=RFC_COLON),
    refused("tab-before-colon", with_line(b"X-V\t: v\r\n"), source=RFC_COLON),
    refused("no-colon", with_line(b"X-V\r\n"), source=RFC_FIELD, nginx=NGINX_NO_COLON),
    refused("empty-name", with_line(b": v\r\n"), source=RFC_NAME),
    refused("space-in-name", with_line(b"X V: v\r\n"), source=RFC_NAME),
    refused("nul-in-name", with_line(b"X\0V: v\r\n"), source=RFC_NAME),
    refused("control-in-name", with_line(b"X\x01V: v\r\n"), source=RFC_NAME),
    refused("high-byte-in-name", with_line(b"X\xe9: v\r\n"), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("parentheses-in-name", with_line(b"X(V): v\r\n"), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("slash-in-name", with_line(b"X/V: v\r\n"), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("at-in-name", with_line(b"X@V: v\r\n"), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("quote-in-name", with_line(b'X"V: v\r\n'), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("bracket-in-name", with_line(b"X[V]: v\r\n"), source=RFC_NAME, nginx=NGINX_DROPS),
    refused("fold-with-space", with_line(b"X-V: a\r\n b\r\n"), source=RFC_FOLD),
    refused("fold-with-tab", with_line(b"X-V: a\r\n\tb\r\n"), source=RFC_FOLD),
    refused("fold-of-empty-value", with_line(b"X-V:\r\n b\r\n"), source=RFC_FOLD),
    refused("fold-of-blanks", with_line(b"X-V: a\r\n \r\n"), source=RFC_FOLD),
    refused(
        "fold-of-first-line",
        b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n",
        source="RFC 9112 §2.2: whitespace before the first field",
    ),
    refused("bare-lf-behind-header", with_line(b"X-V: v\n"), source=RFC_EOL, nginx=NGINX_LF),
    refused("bare-lf-between-headers", with_line(b"X-V: v\nX-W: w\r\n"), source=RFC_EOL, nginx=NGINX_LF),
    refused("bare-lf-for-blank-line", b"GET /a HTTP/1.1\r\nHost: x\r\n\n", source=RFC_EOL, nginx=NGINX_LF),
    refused("cr-lf-lf", b"GET /a HTTP/1.1\r\nHost: x\r\nX-V: v\n\n", source=RFC_EOL, nginx=NGINX_LF),
    refused("bare-cr-behind-header", with_line(b"X-V: v\rX-W: w\r\n"), source=RFC_EOL),
    refused("bare-cr-for-blank-line", b"GET /a HTTP/1.1\r\nHost: x\r\n\rX-V: v\r\n\r\n", source=RFC_EOL),
    refused("cr-cr-lf-behind-header", with_line(b"X-V: v\r\r\n"), source=RFC_EOL, nginx=NGINX_LF),
    refused("nul-in-value", value(b"a\0b"), source=RFC_VALUE),
    refused("nul-behind-value", value(b"a\0"), source=RFC_VALUE),
    refused("bell-in-value", value(b"a\x07b"), source=RFC_CONTROL, nginx=NGINX_CONTROL),
    refused("vertical-tab-in-value", value(b"a\x0bb"), source=RFC_CONTROL, nginx=NGINX_CONTROL),
    refused("form-feed-in-value", value(b"a\x0cb"), source=RFC_CONTROL, nginx=NGINX_CONTROL),
    refused("escape-in-value", value(b"a\x1b[31mb"), source=RFC_CONTROL, nginx=NGINX_CONTROL),
    refused("delete-in-value", value(b"a\x7fb"), source=RFC_CONTROL, nginx=NGINX_CONTROL),
    # for this connection only
    passed(
        "hop-by-hop-dropped",
        with_line(
            b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: x\r\n"
            b"Proxy-Authorization: Basic eA==\r\n"
        ),
        Seen("GET", "/a"),
        source=RFC_HOP,
        nginx="nginx drops Keep-Alive, TE, Connection, Upgrade and Expect, and passes the others on",
    ),
    passed(
        "named-by-connection-dropped",
        with_line(b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-V: v\r\n"),
        Seen("GET", "/a", headers=(("x-v", "v"),)),
        source=RFC_HOP,
        nginx="nginx does not look at the names in Connection",
    ),
    passed(
        "named-by-a-second-connection-dropped",
        with_line(b"Connection: keep-alive\r\nX-Hop: 1\r\nConnection: x-hop\r\n"),
        Seen("GET", "/a"),
        source=RFC_HOP,
        nginx="nginx does not look at the names in Connection",
    ),
    passed(
        "upgrade-that-is-not-asked-for",
        with_line(b"Upgrade: websocket\r\n"),
        Seen("GET", "/a"),
        source="RFC 9110 §7.8: without Connection: upgrade it means nothing",
    ),
    passed(
        "http2-in-clear-text-declined",
        with_line(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        Seen("GET", "/a"),
        source="Miller, h2c Smuggling, 2020",
        nginx="nginx drops Upgrade as well but passes HTTP2-Settings on",
    ),
)
