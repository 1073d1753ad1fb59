"""Several requests on one connection, who ends it, expectations, clients that leave, and limits."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_PERSIST = "RFC 9112 §9.3"
RFC_PIPELINE = "RFC 9112 §9.3.2"
RFC_CLOSE = "RFC 9112 §9.6"
RFC_EXPECT = "RFC 9110 §10.1.1"
KETTLE_2019 = "Kettle, HTTP Desync Attacks, 2019"
KETTLE_2022 = "Kettle, Browser-Powered Desync Attacks, 2022"
KETTLE_2025 = "Kettle, HTTP/1.1 Must Die, 2025"
H = b"Host: x\r\n"

GET_1 = b"GET /1 HTTP/1.1\r\n" + H + b"\r\n"
GET_2 = b"GET /2 HTTP/1.1\r\n" + H + b"\r\n"
POST_3 = b"POST /3 HTTP/1.1\r\n" + H + b"Content-Length: 3\r\n\r\nabc"
POST_4 = b"POST /4 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
SEEN_1, SEEN_2 = Seen("GET", "/1"), Seen("GET", "/2")
SEEN_3, SEEN_4 = Seen("POST", "/3", b"abc"), Seen("POST", "/4", b"abc")

EXPECT = b"Expect: 100-continue\r\n"


NGINX_CLOSE = 'nginx looks for the letters "close" in Connection, whatever word they are part of'
NGINX_0_9 = "nginx takes a request line that it cannot read for HTTP/0.9 and answers without a head"
NGINX_EXPECT = (
    "nginx says 100 by itself, before the engine has seen the request; we pass on what the engine says"
)
NGINX_EXPECTATION = "nginx ignores expectations that it does not know; RFC 9110 §10.1.1 has 417"
NGINX_STATUS = "both refuse; nginx says 400, we say 431 (RFC 6585)"
NGINX_LIMITS = "nginx bounds each line; we bound all of them together, and their number"


def get(fields: bytes, version: bytes = b"1.1") -> bytes:
    return b"GET /1 HTTP/" + version + b"\r\n" + H + fields + b"\r\n"


CASES: tuple[RequestCase, ...] = (
    passed("pipelined", GET_1 + GET_2, SEEN_1, SEEN_2, source=RFC_PIPELINE),
    passed(
        "pipelined-bodies",
        POST_3 + POST_4 + GET_1 + POST_3,
        SEEN_3,
        SEEN_4,
        SEEN_1,
        SEEN_3,
        source=RFC_PIPELINE,
    ),
    passed("pipelined-twenty", GET_1 * 20, *[SEEN_1] * 20, source=RFC_PIPELINE),
    passed("crlf-between", POST_3 + b"\r\n" + GET_1, SEEN_3, SEEN_1, source="RFC 9112 §2.2"),
    passed("close-asked-for", get(b"Connection: close\r\n"), SEEN_1, kept=False, source=RFC_CLOSE),
    passed("close-among-others", get(b"Connection: x, CLOSE\r\n"), SEEN_1, kept=False, source=RFC_CLOSE),
    passed(
        "close-in-second-header",
        get(b"Connection: keep-alive\r\nConnection: close\r\n"),
        SEEN_1,
        kept=False,
        source=RFC_CLOSE,
    ),
    passed("close-wins", get(b"Connection: close, keep-alive\r\n"), SEEN_1, kept=False, source=RFC_PERSIST),
    passed(
        "close-of-another-name", get(b"Connection: closed\r\n"), SEEN_1, source=RFC_CLOSE, nginx=NGINX_CLOSE
    ),
    passed(
        "nothing-behind-close", get(b"Connection: close\r\n") + GET_2, SEEN_1, kept=False, source=RFC_CLOSE
    ),
    passed("http-1.0-closes", get(b"", b"1.0"), SEEN_1, kept=False, source=RFC_PERSIST),
    passed(
        "http-1.0-keeps-alive", get(b"Connection: keep-alive\r\n", b"1.0"), SEEN_1, source="RFC 9112 §C.2.2"
    ),
    passed(
        "http-1.0-close-wins",
        get(b"Connection: keep-alive, close\r\n", b"1.0"),
        SEEN_1,
        kept=False,
        source=RFC_PERSIST,
    ),
    passed("http-1.0-nothing-behind", get(b"", b"1.0") + GET_2, SEEN_1, kept=False, source=RFC_PERSIST),
    passed(
        "http-1.0-body",
        b"POST /3 HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        SEEN_3,
        kept=False,
        source="RFC 9112 §6.3",
    ),
    RequestCase(
        "head-without-host",
        b"HEAD /1 HTTP/1.1\r\n\r\n",
        (400,),
        (),
        kept=False,
        source="RFC 9110 §9.3.2",
        methods=("HEAD",),
    ),
    refused(
        "garbage-behind-a-request", GET_1 + b"@@@@ /hidden\r\n\r\n", after=(SEEN_1,), source=RFC_PIPELINE
    ),
    refused(
        "garbage-behind-a-body",
        POST_3 + b"G" + GET_1[:6] + b"\r\n\r\n",
        after=(SEEN_3,),
        source=RFC_PIPELINE,
        nginx=NGINX_0_9,
    ),
    refused(
        "bad-length-behind-a-request",
        GET_1 + POST_3.replace(b"3\r\n\r\n", b"+3\r\n\r\n"),
        after=(SEEN_1,),
        source=RFC_PIPELINE,
    ),
    refused(
        "desync-both-behind-a-request",
        GET_1 + POST_4.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1) + GET_2,
        after=(SEEN_1,),
        source=KETTLE_2019,
    ),
    refused(
        "prefix-of-a-hidden-request",
        POST_3 + b"GPOST / HTTP\r\n\r\n",
        after=(SEEN_3,),
        source="GPOST: " + KETTLE_2019,
    ),
    passed(
        "body-hides-a-request",
        POST_3.replace(b"3\r\n\r\nabc", b"%d\r\n\r\n" % len(GET_2)) + GET_2 + GET_1,
        Seen("POST", "/3", GET_2),
        SEEN_1,
        source="CL.0: " + KETTLE_2022,
    ),
    passed(
        "chunks-hide-a-request",
        POST_4.replace(b"3\r\nabc", b"%x\r\n%b" % (len(GET_2), GET_2)) + GET_1,
        Seen("POST", "/4", GET_2),
        SEEN_1,
        source="TE.0: Arnolfo et al., Unveiling TE.0 HTTP Request Smuggling, 2024",
    ),
    passed(
        "options-with-a-body",
        b"OPTIONS /1 HTTP/1.1\r\n"
        + H
        + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GET_2), GET_2)
        + GET_1,
        Seen("OPTIONS", "/1", GET_2),
        SEEN_1,
        source="TE.0: Arnolfo et al., Unveiling TE.0 HTTP Request Smuggling, 2024",
    ),
    # expectations
    passed(
        "expect-continue",
        b"POST /3 HTTP/1.1\r\n" + H + EXPECT + b"Content-Length: 3\r\n\r\nabc",
        SEEN_3,
        source=RFC_EXPECT,
        nginx=NGINX_EXPECT,
    ),
    passed(
        "expect-continue-chunks", POST_4.replace(H, H + EXPECT), SEEN_4, source=RFC_EXPECT, nginx=NGINX_EXPECT
    ),
    passed(
        "expect-of-http-1.0",
        b"POST /3 HTTP/1.0\r\n" + EXPECT + b"Content-Length: 3\r\n\r\nabc",
        SEEN_3,
        kept=False,
        source=RFC_EXPECT,
    ),
    passed("expect-without-a-body", get(EXPECT), SEEN_1, source="0.CL: " + KETTLE_2025, nginx=NGINX_EXPECT),
    refused(
        "expect-something-else", get(b"Expect: 200-ok\r\n"), 417, source=RFC_EXPECT, nginx=NGINX_EXPECTATION
    ),
    refused(
        "expect-obfuscated",
        b"POST /3 HTTP/1.1\r\n" + H + b"Expect: y 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        417,
        source="0.CL: " + KETTLE_2025,
        nginx=NGINX_EXPECTATION,
    ),
    # clients that leave
    RequestCase("leaves-in-request-line", b"GET /1 HT", (), (), False, "RFC 9112 §8", fin=True),
    RequestCase("leaves-in-head", get(b"")[:-2], (), (), False, "RFC 9112 §8", fin=True),
    RequestCase("leaves-in-body", POST_3[:-1], (), (), False, "RFC 9112 §8", fin=True),
    RequestCase("leaves-in-chunk", POST_4[:-8], (), (), False, "RFC 9112 §8", fin=True),
    RequestCase(
        "leaves-before-last-chunk",
        POST_4[:-5],
        (),
        (),
        False,
        "RFC 9112 §8: incomplete without the zero chunk",
        fin=True,
    ),
    RequestCase("leaves-before-the-end-of-trailers", POST_4[:-2], (), (), False, "RFC 9112 §8", fin=True),
    RequestCase("leaves-without-a-word", b"\r\n", (), (), False, "RFC 9112 §8", fin=True),
    # limits
    refused(
        "request-line-too-long",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + H + b"\r\n",
        414,
        source="RFC 9110 §15.5.15",
    ),
    refused("request-line-without-end", b"GET /" + b"a" * 70_000, 414, source="RFC 9110 §15.5.15"),
    refused(
        "header-too-long",
        get(b"X-V: " + b"v" * 70_000 + b"\r\n"),
        431,
        source="RFC 6585 §5",
        nginx=NGINX_STATUS,
    ),
    refused(
        "header-without-end",
        b"GET /1 HTTP/1.1\r\n" + H + b"X-V: " + b"v" * 70_000,
        431,
        source="RFC 6585 §5",
        nginx=NGINX_STATUS,
    ),
    refused(
        "headers-too-long",
        get(b"".join(b"X-%d: %b\r\n" % (n, b"v" * 1000) for n in range(70))),
        431,
        source="RFC 6585 §5",
        nginx=NGINX_LIMITS,
    ),
    refused("too-many-headers", get(b"X-V: v\r\n" * 120), 431, source="RFC 6585 §5", nginx=NGINX_LIMITS),
    passed(
        "many-headers",
        get(b"X-V: v\r\n" * 90),
        Seen("GET", "/1", headers=(("x-v", "v"),) * 90),
        source="RFC 6585 §5",
    ),
    passed(
        "long-header",
        get(b"X-V: " + b"v" * 20_000 + b"\r\n"),
        Seen("GET", "/1", headers=(("x-v", "v" * 20_000),)),
        source="RFC 6585 §5",
    ),
    refused(
        "body-too-large",
        b"POST /3 HTTP/1.1\r\n" + H + b"Content-Length: 67108865\r\n\r\nabc",
        413,
        source="RFC 9110 §15.5.14",
    ),
)
