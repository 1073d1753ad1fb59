"""Answers that have no body whatever they say, and those that come before the answer."""

from tests.corpus.cases import ResponseCase, answered, bad

RFC_BODILESS = "RFC 9112 §6.3"
RFC_HEAD = "RFC 9110 §9.3.2"
RFC_204 = "RFC 9110 §15.3.5"
RFC_304 = "RFC 9110 §15.4.5"
RFC_INTERIM = "RFC 9110 §15.2"
RFC_101 = "RFC 9110 §15.2.2"
KETTLE_2025 = "Kettle, HTTP/1.1 Must Die, 2025"
RESPONSE_QUEUE = "Kettle, HTTP/2 – The Sequel is Always Worse, 2021: response queue poisoning"

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

NGINX_INTERIM = "nginx takes an interim answer for the final one, and what follows for its body"
NGINX_101 = "nginx passes a change of protocol on that nobody asked for"

CASES: tuple[ResponseCase, ...] = (
    answered("head-with-length", OK[:-3], method="HEAD", headers=(("content-length", "3"),), source=RFC_HEAD),
    answered(
        "head-with-chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        method="HEAD",
        source=RFC_HEAD,
    ),
    answered(
        "head-without-length",
        b"HTTP/1.1 200 OK\r\nX-V: v\r\n\r\n",
        method="HEAD",
        headers=(("x-v", "v"),),
        source=RFC_HEAD,
    ),
    answered("head-with-a-body", OK, method="HEAD", reused=False, source=RESPONSE_QUEUE),
    answered(
        "head-404", b"HTTP/1.1 404 X\r\nContent-Length: 9\r\n\r\n", method="HEAD", status=404, source=RFC_HEAD
    ),
    answered("204", b"HTTP/1.1 204 X\r\nX-V: v\r\n\r\n", status=204, headers=(("x-v", "v"),), source=RFC_204),
    answered("204-with-length", b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", status=204, source=RFC_204),
    answered(
        "204-with-a-body",
        b"HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\nabc",
        status=204,
        reused=False,
        source=RESPONSE_QUEUE,
    ),
    answered(
        "204-with-chunks",
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        status=204,
        reused=False,
        source=RFC_204,
    ),
    answered("304", b'HTTP/1.1 304 X\r\nETag: "a"\r\n\r\n', status=304, source=RFC_304),
    answered(
        "304-with-length",
        b"HTTP/1.1 304 X\r\nContent-Length: 3\r\n\r\n",
        status=304,
        headers=(("content-length", "3"),),
        source=RFC_304,
    ),
    answered(
        "304-with-a-body",
        b"HTTP/1.1 304 X\r\nContent-Length: 3\r\n\r\nabc",
        status=304,
        reused=False,
        source=RESPONSE_QUEUE,
    ),
    answered(
        "205-empty", b"HTTP/1.1 205 X\r\nContent-Length: 0\r\n\r\n", status=205, source="RFC 9110 §15.3.6"
    ),
    # interim
    answered("103-passed", HINTS + OK, b"abc", interim=(103,), source="RFC 8297", nginx=NGINX_INTERIM),
    answered(
        "103-twice", HINTS + HINTS + OK, b"abc", interim=(103, 103), source="RFC 8297", nginx=NGINX_INTERIM
    ),
    answered(
        "102-passed",
        b"HTTP/1.1 102 Processing\r\n\r\n" + OK,
        b"abc",
        interim=(102,),
        source="RFC 2518 §10.1",
        nginx=NGINX_INTERIM,
    ),
    answered(
        "100-nobody-asked-for", CONTINUE + OK, b"abc", source="RFC 9110 §15.2.1: drop it", nginx=NGINX_INTERIM
    ),
    answered(
        "103-not-for-http-1.0",
        HINTS + OK,
        b"abc",
        version="1.0",
        kept=False,
        source=RFC_INTERIM,
        nginx=NGINX_INTERIM,
    ),
    answered(
        "100-with-length",
        b"HTTP/1.1 100 X\r\nContent-Length: 3\r\n\r\n" + OK,
        b"abc",
        source="RFC 9112 §6.3: 1xx have no body",
        nginx=NGINX_INTERIM,
    ),
    answered(
        "103-before-head",
        HINTS + OK[:-3],
        method="HEAD",
        interim=(103,),
        source="RFC 8297",
        nginx=NGINX_INTERIM,
    ),
    answered(
        "103-before-204",
        HINTS + b"HTTP/1.1 204 X\r\n\r\n",
        status=204,
        interim=(103,),
        source="RFC 8297",
        nginx=NGINX_INTERIM,
    ),
    bad("interim-without-end", CONTINUE * 40 + OK, source="our limit: 32", nginx=NGINX_INTERIM),
    bad("interim-then-nothing", CONTINUE, close=True, source="RFC 9112 §8", nginx=NGINX_INTERIM),
    bad("interim-then-garbage", CONTINUE + b"hello\r\n\r\n", source="RFC 9112 §4", nginx=NGINX_INTERIM),
    bad(
        "101-nobody-asked-for",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
        source=RFC_101,
        nginx=NGINX_101,
    ),
    bad("101-without-upgrade", b"HTTP/1.1 101 X\r\n\r\n" + OK, source=RFC_101, nginx=NGINX_101),
)
