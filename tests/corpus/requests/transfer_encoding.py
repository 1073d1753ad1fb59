"""Transfer-Encoding: `chunked`, and the hundred ways to write it so that only one of two servers sees it."""

from tests.corpus.cases import RequestCase, Seen, passed, refused

RFC_TE = "RFC 9112 §6.1"
RFC_UNKNOWN = "RFC 9112 §6.1: 501 for a coding that is not understood"
RFC_BOTH = "RFC 9112 §6.3: Transfer-Encoding and Content-Length"
KETTLE_2019 = "Kettle, HTTP Desync Attacks, 2019"
SMUGGLER = "defparam, smuggler, 2020"
KLEIN_2020 = "Klein, HTTP Request Smuggling in 2020"

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
EMPTY = b"0\r\n\r\n"
ABC = Seen("POST", "/a", b"abc")


NGINX_TABS = "nginx trims spaces but no tabs; RFC 9110 §5.5 has both"
NGINX_STATUS = "both refuse; 400 or 501 depends on which of two faults is seen first"
NGINX_DROPS = (
    "nginx drops the line (ignore_invalid_headers) and serves the rest; so a body can become a request"
)
NGINX_LF = "nginx takes a bare LF, or CR CR LF, for the end of a line"


def post(fields: bytes, body: bytes = CHUNKS, version: bytes = b"1.1") -> bytes:
    return b"POST /a HTTP/" + version + b"\r\nHost: x\r\n" + fields + b"\r\n" + body


def coding(value: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value + b"\r\n")


def hidden(fields: bytes) -> bytes:
    """CL.TE: to whom the coding is invisible the body is six bytes; to the other it ends one byte earlier."""
    return post(b"Content-Length: 6\r\n" + fields, b"0\r\n\r\nG")


CASES: tuple[RequestCase, ...] = (
    passed("plain", coding(b"chunked"), ABC, source=RFC_TE),
    passed("any-case", post(b"tRANSFER-eNCODING: ChUnKeD\r\n"), ABC, source="RFC 9112 §7: case-insensitive"),
    passed("blanks-around", coding(b" \t chunked\t "), ABC, source="RFC 9110 §5.5", nginx=NGINX_TABS),
    passed("no-blank", post(b"Transfer-Encoding:chunked\r\n"), ABC, source="RFC 9112 §5"),
    passed(
        "tab-before",
        post(b"Transfer-Encoding:\tchunked\r\n"),
        ABC,
        source=KETTLE_2019 + " (valid; some servers overlook it)",
        nginx=NGINX_TABS,
    ),
    passed("empty-body", post(b"Transfer-Encoding: chunked\r\n", EMPTY), Seen("POST", "/a"), source=RFC_TE),
    passed(
        "of-get",
        b"GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        Seen("GET", "/a", b"abc"),
        source="RFC 9110 §9.3.1",
    ),
    passed(
        "named-by-connection",
        post(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n"),
        ABC,
        source="Davison, Abusing HTTP hop-by-hop request headers, 2019: framing cannot be dropped by the client",
    ),
    # what is not spoken
    refused("xchunked", coding(b"xchunked"), 501, source=KETTLE_2019),
    refused("chunkedx", coding(b"chunkedx"), 501, source=SMUGGLER),
    refused("identity", coding(b"identity"), 501, source="RFC 9112 §7: identity was removed"),
    refused("gzip", coding(b"gzip"), 501, source=RFC_UNKNOWN),
    refused("gzip-then-chunked", coding(b"gzip, chunked"), 501, source=RFC_UNKNOWN),
    refused("chunked-then-gzip", coding(b"chunked, gzip"), 501, source=RFC_UNKNOWN),
    refused("chunked-then-identity", coding(b"chunked, identity"), 501, source=KETTLE_2019),
    refused("identity-then-chunked", coding(b"identity, chunked"), 501, source=KETTLE_2019),
    refused("chunked-chunked", coding(b"chunked, chunked"), 501, source="RFC 9112 §7.1: not more than once"),
    refused("chunked-without-comma", coding(b"chunked chunked"), 501, source=SMUGGLER),
    refused("leading-comma", coding(b", chunked"), 501, source=SMUGGLER),
    refused("trailing-comma", coding(b"chunked,"), 501, source=SMUGGLER),
    refused("semicolon", coding(b"chunked;"), 501, source=SMUGGLER),
    refused("parameter", coding(b"chunked;q=0.5"), 501, source=SMUGGLER),
    refused("quoted", coding(b'"chunked"'), 501, source=SMUGGLER),
    refused("single-quoted", coding(b"'chunked'"), 501, source=SMUGGLER),
    refused("colon-before", coding(b": chunked"), 501, source=SMUGGLER),
    refused("blank-inside", coding(b"chun ked"), 501, source=SMUGGLER),
    refused("cow", coding(b"cow"), 501, source=KETTLE_2019),
    refused("empty", coding(b""), 501, source=RFC_TE),
    refused("no-break-space-before", coding(b"\xa0chunked"), 501, source=SMUGGLER),
    refused("high-byte-behind", coding(b"chunked\xff"), 501, source=SMUGGLER),
    refused("long-s", coding("\u017fhunked".encode()), 501, source="Unicode case folding"),
    refused(
        "kelvin-sign",
        coding("chun\u212aed".encode()),
        501,
        source="Unicode case folding: K is a k to lower()",
    ),
    refused(
        "twice",
        post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        501,
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    refused(
        "twice-cow-second",
        post(b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n"),
        501,
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    refused(
        "twice-cow-first",
        post(b"Transfer-encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
        501,
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    refused(
        "twice-identity-second",
        post(b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n"),
        501,
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    # what is no header at all
    refused("blank-before-colon", post(b"Transfer-Encoding : chunked\r\n"), source=KETTLE_2019),
    refused("tab-before-colon", post(b"Transfer-Encoding\t: chunked\r\n"), source=SMUGGLER),
    refused("vertical-tab-before-colon", post(b"Transfer-Encoding\x0b: chunked\r\n"), source=SMUGGLER),
    refused("nul-before-colon", post(b"Transfer-Encoding\0: chunked\r\n"), source=SMUGGLER),
    refused(
        "high-byte-before-colon",
        post(b"Transfer-Encoding\xff: chunked\r\n"),
        source=SMUGGLER,
        nginx=NGINX_DROPS,
    ),
    refused("blank-before-name", post(b" Transfer-Encoding: chunked\r\n"), source=KETTLE_2019),
    refused("behind-folded-line", post(b"X-V: v\r\n Transfer-Encoding: chunked\r\n"), source=SMUGGLER),
    refused(
        "behind-bare-lf", post(b"X-V: v\nTransfer-Encoding: chunked\r\n"), source=KETTLE_2019, nginx=NGINX_LF
    ),
    refused("behind-bare-cr", post(b"X-V: v\rTransfer-Encoding: chunked\r\n"), source=SMUGGLER),
    refused("name-in-two-lines", post(b"Transfer-Encoding\r\n: chunked\r\n"), source=KETTLE_2019),
    refused("value-in-next-line", post(b"Transfer-Encoding:\r\n chunked\r\n"), source=KLEIN_2020),
    refused("vertical-tab-before", coding(b"\x0bchunked"), source=KETTLE_2019, nginx=NGINX_STATUS),
    refused("vertical-tab-behind", coding(b"chunked\x0b"), source=SMUGGLER, nginx=NGINX_STATUS),
    refused("form-feed-before", coding(b"\x0cchunked"), source=SMUGGLER, nginx=NGINX_STATUS),
    refused("nul-before", coding(b"\0chunked"), source=SMUGGLER),
    refused("bare-cr-before", coding(b"\rchunked"), source=SMUGGLER),
    refused("bare-cr-behind", coding(b"chunked\r"), source=SMUGGLER, nginx=NGINX_LF),
    refused("bare-lf-before", coding(b"\nchunked"), source=SMUGGLER, nginx=NGINX_STATUS),
    refused("delete-behind", coding(b"chunked\x7f"), source=SMUGGLER, nginx=NGINX_STATUS),
    refused(
        "http-1.0",
        post(b"Transfer-Encoding: chunked\r\n", version=b"1.0"),
        source="RFC 9112 §6.1: faulty framing",
    ),
    # with a length
    refused("cl-te", hidden(b"Transfer-Encoding: chunked\r\n"), source=RFC_BOTH),
    refused(
        "te-cl",
        post(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"
        ),
        source=RFC_BOTH,
    ),
    refused("cl-zero-te", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), source=RFC_BOTH),
    refused(
        "cl-te-http-1.0",
        post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", EMPTY, b"1.0"),
        source=RFC_BOTH,
    ),
    refused(
        "cl-te-xchunked", hidden(b"Transfer-Encoding: xchunked\r\n"), source=KETTLE_2019, nginx=NGINX_STATUS
    ),
    refused(
        "cl-te-identity", hidden(b"Transfer-Encoding: identity\r\n"), source=KETTLE_2019, nginx=NGINX_STATUS
    ),
    refused("cl-te-blank-before-colon", hidden(b"Transfer-Encoding : chunked\r\n"), source=KETTLE_2019),
    refused("cl-te-blank-before-name", hidden(b" Transfer-Encoding: chunked\r\n"), source=KETTLE_2019),
    refused("cl-te-tab", hidden(b"Transfer-Encoding:\tchunked\r\n"), source=KETTLE_2019, nginx=NGINX_STATUS),
    refused(
        "cl-te-vertical-tab",
        hidden(b"Transfer-Encoding:\x0bchunked\r\n"),
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    refused("cl-te-behind-bare-lf", hidden(b"X: x\nTransfer-Encoding: chunked\r\n"), source=KETTLE_2019),
    refused("cl-te-name-in-two-lines", hidden(b"Transfer-Encoding\r\n: chunked\r\n"), source=KETTLE_2019),
    refused(
        "cl-te-twice", hidden(b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n"), source=KETTLE_2019
    ),
    refused(
        "cl-te-then-identity",
        hidden(b"Transfer-Encoding: chunked, identity\r\n"),
        source=KETTLE_2019,
        nginx=NGINX_STATUS,
    ),
    passed(
        "cl-te-underscore",
        post(b"Content-Length: 6\r\nTransfer_Encoding: chunked\r\n", b"0\r\n\r\nG"),
        Seen("POST", "/a", b"0\r\n\r\nG", headers=(("transfer_encoding", "chunked"),)),
        source=SMUGGLER + ": it is another header",
        nginx="nginx drops names with underscores, for CGI's sake; it is a valid token and engines' clients send such",
    ),
    passed(
        "cl-x-te",
        post(b"Content-Length: 6\r\nX-Transfer-Encoding: chunked\r\n", b"0\r\n\r\nG"),
        Seen("POST", "/a", b"0\r\n\r\nG", headers=(("x-transfer-encoding", "chunked"),)),
        source=SMUGGLER + ": it is another header",
    ),
    passed(
        "cl-content-encoding",
        post(b"Content-Length: 6\r\nContent-Encoding: chunked\r\n", b"0\r\n\r\nG"),
        Seen("POST", "/a", b"0\r\n\r\nG", headers=(("content-encoding", "chunked"),)),
        source=SMUGGLER + ": it is another header",
    ),
)
