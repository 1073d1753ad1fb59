"""Host, and targets that bring their own."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_HOST = "RFC 9112 §3.2"
RFC_ABSOLUTE = "RFC 9112 §3.2.2"
KETTLE_HOST = "Kettle, Practical HTTP Host Header Attacks, 2013"


NGINX_EMPTY = "nginx refuses an empty Host; RFC 9112 §3.2 allows it"
NGINX_HOST = "nginx lets nearly anything be a host; it comes back to users in links (X-Forwarded-Host)"
NGINX_DOTS = "nginx resolves dots and refuses to leave the root; the engine knows what its paths mean"


def headers(raw: bytes) -> bytes:
    return b"GET /a HTTP/1.1\r\n" + raw + b"\r\n"


def absolute(target: bytes, host: bytes = b"x") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


CASES: tuple[RequestCase, ...] = (
    passed("with-port", headers(b"Host: x:8080\r\n"), Seen("GET", "/a"), source=RFC_HOST),
    passed("upper-case", headers(b"HOST: EXAMPLE.com\r\n"), Seen("GET", "/a"), source=RFC_HOST),
    passed("ipv6", headers(b"Host: [::1]:8080\r\n"), Seen("GET", "/a"), source=RFC_HOST),
    passed(
        "empty",
        headers(b"Host:\r\n"),
        Seen("GET", "/a"),
        source="RFC 9112 §3.2: empty when the target has no authority",
        nginx=NGINX_EMPTY,
    ),
    passed("http-1.0-without", b"GET /a HTTP/1.0\r\n\r\n", Seen("GET", "/a"), source=RFC_HOST, kept=False),
    refused("missing", headers(b""), source=RFC_HOST),
    refused("missing-with-others", headers(b"X-V: v\r\n"), source=RFC_HOST),
    refused("twice", headers(b"Host: x\r\nHost: y\r\n"), source=RFC_HOST),
    refused("twice-the-same", headers(b"Host: x\r\nhost: x\r\n"), source=RFC_HOST),
    refused("twice-one-with-blank", headers(b"Host: x\r\nHost : y\r\n"), source=KETTLE_HOST),
    refused("twice-one-folded", headers(b" Host: y\r\nHost: x\r\n"), source=KETTLE_HOST),
    refused("with-path", headers(b"Host: x/y\r\n"), source=KETTLE_HOST),
    refused("with-user", headers(b"Host: u@x\r\n"), source=KETTLE_HOST, nginx=NGINX_HOST),
    refused("with-blank", headers(b"Host: x y\r\n"), source=RFC_HOST),
    refused("with-comma", headers(b"Host: x, y\r\n"), source=RFC_HOST),
    refused("with-nul", headers(b"Host: x\0y\r\n"), source=RFC_HOST),
    refused("with-high-bytes", headers(b"Host: x\xe9\r\n"), source=RFC_HOST, nginx=NGINX_HOST),
    refused("with-backslash", headers(b"Host: x\\y\r\n"), source=KETTLE_HOST, nginx=NGINX_HOST),
    refused("with-query", headers(b"Host: x?y\r\n"), source=KETTLE_HOST, nginx=NGINX_HOST),
    # absolute-form
    passed("absolute-form", absolute(b"http://x/a?b=c"), Seen("GET", "/a?b=c"), source=RFC_ABSOLUTE),
    passed("absolute-form-wins", absolute(b"http://y/a", b"x"), Seen("GET", "/a"), source=RFC_ABSOLUTE),
    passed("absolute-form-upper-case", absolute(b"HTTP://X/a"), Seen("GET", "/a"), source=RFC_ABSOLUTE),
    passed("absolute-form-without-path", absolute(b"http://x"), Seen("GET", "/"), source=RFC_ABSOLUTE),
    passed(
        "absolute-form-without-path-with-query",
        absolute(b"http://x?b"),
        Seen("GET", "/?b"),
        source=RFC_ABSOLUTE,
    ),
    passed(
        "absolute-form-odd-path",
        absolute(b"http://x//../a%2f"),
        Seen("GET", "//../a%2f"),
        source=RFC_ABSOLUTE,
        nginx=NGINX_DOTS,
    ),
    refused("absolute-form-without-host-header", b"GET http://x/a HTTP/1.1\r\n\r\n", source=RFC_HOST),
    refused("absolute-form-without-authority", absolute(b"http:///a"), source=RFC_ABSOLUTE),
    refused("absolute-form-with-user", absolute(b"http://u:p@x/a"), source="RFC 9110 §4.2.4"),
    refused("absolute-form-with-high-byte", absolute(b"http://x\xe9/a"), source=RFC_ABSOLUTE),
    refused(
        "absolute-form-with-backslash", absolute(b"http://x\\@y/a"), source="Tsai, A New Era of SSRF, 2017"
    ),
    refused("absolute-form-with-one-slash", absolute(b"http:/x/a"), source=RFC_ABSOLUTE),
)
