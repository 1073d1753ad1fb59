"""Bodies of a known length, and everything that pretends to be one."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_LENGTH = "RFC 9112 §6.3"
RFC_GRAMMAR = "RFC 9110 §8.6"
KETTLE_2019 = "Kettle, HTTP Desync Attacks, 2019"
KETTLE_2022 = "Kettle, Browser-Powered Desync Attacks, 2022"
LINHART_2005 = "Linhart et al., HTTP Request Smuggling, 2005"

#: What an attacker wants to be taken for a request of its own.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


NGINX_ZEROS = "nginx reads zeros without end; a length of more than 15 digits is a mistake or a trick"
NGINX_TABS = "nginx trims spaces but no tabs; RFC 9110 §5.5 has both"


def post(fields: bytes, body: bytes = b"abc") -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + body


def length(value: bytes, body: bytes = b"abc") -> bytes:
    return post(b"Content-Length: " + value + b"\r\n", body)


ABC = Seen("POST", "/a", b"abc")

CASES: tuple[RequestCase, ...] = (
    passed("plain", length(b"3"), ABC, source=RFC_LENGTH),
    passed("zero", length(b"0", b""), Seen("POST", "/a"), source=RFC_LENGTH),
    passed("absent", post(b"", b""), Seen("POST", "/a"), source="RFC 9112 §6.3: no length means no body"),
    passed("blanks-around", length(b" \t3 \t"), ABC, source="RFC 9110 §5.5", nginx=NGINX_TABS),
    passed("leading-zeros", length(b"003"), ABC, source=RFC_GRAMMAR),
    passed(
        "of-get",
        b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        Seen("GET", "/a", b"abc"),
        source="RFC 9110 §9.3.1",
    ),
    passed(
        "of-head",
        b"HEAD /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        Seen("HEAD", "/a", b"abc"),
        source="RFC 9110 §9.3.2",
    ),
    passed(
        "of-delete",
        b"DELETE /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        Seen("DELETE", "/a", b"abc"),
        source="RFC 9110 §9.3.5",
    ),
    passed(
        "any-bytes",
        length(b"8", b"\0\xff\r\n\r\n\n\r"),
        Seen("POST", "/a", b"\0\xff\r\n\r\n\n\r"),
        source=RFC_LENGTH,
    ),
    passed(
        "body-that-looks-like-a-request",
        length(b"%d" % len(HIDDEN), HIDDEN),
        Seen("POST", "/a", HIDDEN),
        source="CL.0: " + KETTLE_2022,
    ),
    passed(
        "body-that-looks-like-chunks",
        length(b"5", b"0\r\n\r\n"),
        Seen("POST", "/a", b"0\r\n\r\n"),
        source=KETTLE_2019,
    ),
    passed(
        "get-body-that-looks-like-a-request",
        b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        Seen("GET", "/a", HIDDEN),
        source="CL.0: " + KETTLE_2022,
    ),
    refused("plus", length(b"+3"), source=RFC_GRAMMAR),
    refused("minus", length(b"-3"), source=RFC_GRAMMAR),
    refused("minus-zero", length(b"-0", b""), source=RFC_GRAMMAR),
    refused("hexadecimal", length(b"0x3"), source=RFC_GRAMMAR),
    refused("fraction", length(b"3.0"), source=RFC_GRAMMAR),
    refused("exponent", length(b"3e0"), source=RFC_GRAMMAR),
    refused("underscore", length(b"0_3"), source="int() of Python takes it"),
    refused("empty", length(b"", b""), source=RFC_GRAMMAR),
    refused("word", length(b"abc"), source=RFC_GRAMMAR),
    refused("blank-inside", length(b"3 3"), source=KETTLE_2019),
    refused("semicolon", length(b"3;"), source=KETTLE_2019),
    refused("quoted", length(b'"3"'), source=KETTLE_2019),
    refused("two-in-one", length(b"3, 4"), source=RFC_LENGTH),
    refused("two-equal-in-one", length(b"3, 3"), source="RFC 9112 §6.3 allows it; we refuse all repetition"),
    refused("trailing-comma", length(b"3,"), source=RFC_LENGTH),
    refused("vertical-tab-before", length(b"\x0b3"), source=KETTLE_2019),
    refused("form-feed-behind", length(b"3\x0c"), source=KETTLE_2019),
    refused("nul-behind", length(b"3\0"), source=KETTLE_2019),
    refused("no-break-space", length(b"3\xa0"), source="isdigit() and strip() of some languages take it"),
    refused("full-width-digit", length("\uff13".encode()), source="isdigit() of some languages takes it"),
    refused("arabic-digit", length("\u0663".encode()), source="isdigit() of some languages takes it"),
    refused("huge", length(b"99999999999999999999999"), source="RFC 9110 §8.6: anticipate large numbers"),
    refused("two-to-the-64-plus-3", length(b"18446744073709551619"), source="RFC 9110 §8.6: overflow"),
    refused("two-to-the-32-plus-3", length(b"4294967299"), 413, source="RFC 9110 §8.6: overflow"),
    refused(
        "leading-zeros-endless",
        length(b"0" * 40 + b"3"),
        source="RFC 9110 §8.6: anticipate large numbers",
        nginx=NGINX_ZEROS,
    ),
    refused(
        "twice-different", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"), source=LINHART_2005
    ),
    refused(
        "twice-different-zero-first", post(b"Content-Length: 0\r\nContent-Length: 3\r\n"), source=LINHART_2005
    ),
    refused(
        "twice-the-same",
        post(b"Content-Length: 3\r\nContent-Length: 3\r\n"),
        source="RFC 9112 §6.3 allows it; we refuse all repetition",
    ),
    refused("twice-one-with-blank", post(b"Content-Length: 3\r\nContent-Length : 4\r\n"), source=KETTLE_2019),
    refused("blank-before-colon", post(b"Content-Length : 3\r\n"), source=KETTLE_2019),
    refused("folded", post(b"Content-Length:\r\n 3\r\n"), source=KETTLE_2019),
    refused("folded-digits", post(b"Content-Length: 3\r\n 4\r\n"), source=KETTLE_2019),
    passed(
        "underscore-in-name",
        post(b"Content_Length: 3\r\n", b""),
        Seen("POST", "/a", headers=(("content_length", "3"),)),
        source="it is another header",
        nginx="nginx drops names with underscores, for CGI's sake; it is a valid token and engines' clients send such",
    ),
    passed(
        "longer-name",
        post(b"X-Content-Length: 3\r\nContent-Length2: 3\r\n", b""),
        Seen("POST", "/a", headers=(("x-content-length", "3"), ("content-length2", "3"))),
        source="they are other headers",
    ),
    passed(
        "named-by-connection",
        post(b"Connection: content-length\r\nContent-Length: 3\r\n"),
        ABC,
        source="Davison, Abusing HTTP hop-by-hop request headers, 2019: framing cannot be dropped by the client",
    ),
)
