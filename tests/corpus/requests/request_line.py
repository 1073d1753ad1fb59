"""The first line of a request, and what may stand before it."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

H = b"Host: x\r\n"
RFC_LINE = "RFC 9112 §3"
RFC_TARGET = "RFC 9112 §3.2"
RFC_ROBUST = "RFC 9112 §2.2"
KETTLE_2019 = "Kettle, HTTP Desync Attacks, 2019"


NGINX_LF = "nginx takes a bare CR or LF for the end of a line; half of all smuggling needs that"
NGINX_SPACES = "nginx reads over spaces in the request line; RFC 9112 §3 has exactly one"
NGINX_0_9 = "nginx still answers HTTP/0.9, which no client of an engine speaks and which has no end"
NGINX_STATUS = "both refuse; nginx says 400, we say what is wrong"
NGINX_VERSION = "nginx reads HTTP/1.10 as newer than 1.1; RFC 9112 §2.3 has one digit"
NGINX_PATH = (
    "nginx decodes the path, to find files, and refuses what it cannot decode; the engine knows what it means"
)
NGINX_STAR = "nginx has no use for a target that is no path; an engine may"
NGINX_FRAGMENT = (
    "nginx passes a fragment on; RFC 9112 §3.2 has none, and readers disagree where the path ends"
)


def line(raw: bytes) -> bytes:
    return raw + b"\r\n" + H + b"\r\n"


CASES: tuple[RequestCase, ...] = (
    passed("plain-get", line(b"GET /a HTTP/1.1"), Seen("GET", "/a"), source=RFC_LINE),
    passed("crlf-before", b"\r\n\r\n" + line(b"GET /a HTTP/1.1"), Seen("GET", "/a"), source=RFC_ROBUST),
    passed(
        "unknown-method", line(b"FROBNICATE /a HTTP/1.1"), Seen("FROBNICATE", "/a"), source="RFC 9110 §9.1"
    ),
    passed(
        "method-with-dash",
        line(b"VERSION-CONTROL /a HTTP/1.1"),
        Seen("VERSION-CONTROL", "/a"),
        source="RFC 3253",
    ),
    refused(
        "lower-case-method", line(b"get /a HTTP/1.1"), source="RFC 9110 §9.1: methods are case-sensitive"
    ),
    refused("method-with-digit", line(b"GE7 /a HTTP/1.1"), source=RFC_LINE),
    refused("method-with-nul", line(b"G\0T /a HTTP/1.1"), source=RFC_LINE),
    refused("no-method", line(b" /a HTTP/1.1"), source=RFC_LINE),
    refused("connect", line(b"CONNECT x:443 HTTP/1.1"), 405, source="RFC 9110 §9.3.6", nginx=NGINX_STATUS),
    refused("connect-path", line(b"CONNECT /a HTTP/1.1"), 405, source="RFC 9110 §9.3.6"),
    refused("lf-before", b"\n" + line(b"GET /a HTTP/1.1"), source=RFC_ROBUST, nginx=NGINX_LF),
    refused("cr-before", b"\r" + line(b"GET /a HTTP/1.1"), source=RFC_ROBUST, nginx=NGINX_LF),
    refused("space-before", b" " + line(b"GET /a HTTP/1.1"), source=RFC_ROBUST),
    refused(
        "two-spaces-before-target",
        line(b"GET  /a HTTP/1.1"),
        source="RFC 9112 §3: exactly one SP",
        nginx=NGINX_SPACES,
    ),
    refused(
        "two-spaces-before-version",
        line(b"GET /a  HTTP/1.1"),
        source="RFC 9112 §3: exactly one SP",
        nginx=NGINX_SPACES,
    ),
    refused(
        "space-behind-version",
        line(b"GET /a HTTP/1.1 "),
        source="RFC 9112 §3: exactly one SP",
        nginx=NGINX_SPACES,
    ),
    refused("tab-before-target", line(b"GET\t/a HTTP/1.1"), source=KETTLE_2019),
    refused("tab-before-version", line(b"GET /a\tHTTP/1.1"), source=KETTLE_2019),
    refused("vertical-tab-before-version", line(b"GET /a\x0bHTTP/1.1"), source=KETTLE_2019),
    refused("space-in-target", line(b"GET /a b HTTP/1.1"), source="RFC 9112 §3.2"),
    refused("bare-lf", b"GET /a HTTP/1.1\n" + H + b"\r\n", source=RFC_ROBUST, nginx=NGINX_LF),
    refused("bare-lf-everywhere", b"GET /a HTTP/1.1\nHost: x\n\n", source=RFC_ROBUST, nginx=NGINX_LF),
    refused("bare-cr", b"GET /a HTTP/1.1\r" + H + b"\r\n", source=RFC_ROBUST),
    refused("bare-cr-in-target", line(b"GET /a\rb HTTP/1.1"), source=RFC_ROBUST),
    refused("lf-in-target", line(b"GET /a\nb HTTP/1.1"), source=RFC_ROBUST, nginx=NGINX_0_9),
    refused("cr-cr-lf", b"GET /a HTTP/1.1\r\r\n" + H + b"\r\n", source=RFC_ROBUST),
    refused("nul-in-target", line(b"GET /a\0b HTTP/1.1"), source=RFC_TARGET),
    refused("control-in-target", line(b"GET /a\x01b HTTP/1.1"), source=RFC_TARGET),
    refused("delete-in-target", line(b"GET /a\x7fb HTTP/1.1"), source=RFC_TARGET),
    refused("http-0.9", b"GET /a\r\n", source="RFC 9112 §3: HTTP/0.9 has no framing", nginx=NGINX_0_9),
    refused(
        "http-0.9-with-headers",
        b"GET /a\r\n" + H + b"\r\n",
        source="RFC 9112 §3: HTTP/0.9 has no framing",
        nginx=NGINX_0_9,
    ),
    refused("version-0.9", line(b"GET /a HTTP/0.9"), 505, source="RFC 9110 §15.6.6", nginx=NGINX_STATUS),
    refused("version-2", line(b"GET /a HTTP/2.0"), 505, source="RFC 9110 §15.6.6"),
    refused("version-3", line(b"GET /a HTTP/3.0"), 505, source="RFC 9110 §15.6.6"),
    passed("version-1.2", line(b"GET /a HTTP/1.2"), Seen("GET", "/a"), source="RFC 9110 §2.5"),
    refused("version-two-digits", line(b"GET /a HTTP/1.10"), source="RFC 9112 §2.3", nginx=NGINX_VERSION),
    refused("version-leading-zero", line(b"GET /a HTTP/01.1"), source="RFC 9112 §2.3"),
    refused("version-without-minor", line(b"GET /a HTTP/1"), source="RFC 9112 §2.3"),
    refused("version-lower-case", line(b"GET /a http/1.1"), source="RFC 9112 §2.3: case-sensitive"),
    refused("version-of-another-protocol", line(b"GET /a RTSP/1.0"), source="RFC 9112 §2.3"),
    refused(
        "http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, source="RFC 9113 §3.4", nginx=NGINX_STATUS
    ),
    refused("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", source="RFC 8446 §4.1.2"),
    # targets
    passed(
        "percent-encoded",
        line(b"GET /a%2Fb%00%zz%?q=%26 HTTP/1.1"),
        Seen("GET", "/a%2Fb%00%zz%?q=%26"),
        source=RFC_TARGET,
        nginx=NGINX_PATH,
    ),
    passed(
        "dots-and-slashes",
        line(b"GET //a/./../b//c;d=1/?? HTTP/1.1"),
        Seen("GET", "//a/./../b//c;d=1/??"),
        source=RFC_TARGET,
    ),
    passed(
        "odd-characters", line(b"GET /\"<>\\^`{|}' HTTP/1.1"), Seen("GET", "/\"<>\\^`{|}'"), source=RFC_TARGET
    ),
    passed("high-bytes", line(b"GET /\xe9\xff HTTP/1.1"), Seen("GET", "/\xe9\xff"), source=RFC_TARGET),
    passed("empty-query", line(b"GET /a? HTTP/1.1"), Seen("GET", "/a?"), source=RFC_TARGET),
    passed(
        "options-star",
        line(b"OPTIONS * HTTP/1.1"),
        Seen("OPTIONS", "*"),
        source="RFC 9112 §3.2.4",
        nginx=NGINX_STAR,
    ),
    refused("get-star", line(b"GET * HTTP/1.1"), source="RFC 9112 §3.2.4"),
    refused(
        "fragment",
        line(b"GET /a#b HTTP/1.1"),
        source="RFC 9112 §3.2: a target has no fragment",
        nginx=NGINX_FRAGMENT,
    ),
    refused("no-leading-slash", line(b"GET a HTTP/1.1"), source=RFC_TARGET),
    refused("query-only", line(b"GET ?a HTTP/1.1"), source=RFC_TARGET),
    refused("authority-form-of-get", line(b"GET x:80 HTTP/1.1"), source="RFC 9112 §3.2.3"),
    refused("no-target", b"GET HTTP/1.1\r\n" + H + b"\r\n", source=RFC_LINE),
)
