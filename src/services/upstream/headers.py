"""Headers on their way through a proxy: which stay on this connection, which travel. Pure bytes in, bytes out.

Header names are lower case here (ASGI's rule), values are what the sender wrote.
"""

from collections.abc import Iterable, Sequence

Header = tuple[bytes, bytes]

#: RFC 9110 §7.6.1 and the older names that still turn up. They speak to the next machine, not to the last.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

#: Not hop-by-hop, but ours to decide: the engine gets our host and its own token, the expectation was met by us,
#: the length is written again with the body we send, and the pin is a word between the client and us.
REQUEST_OURS = frozenset(
    {b"host", b"authorization", b"expect", b"content-length", b"x-vastproxy-instance", b"x-request-id"}
)

_NEVER_SENT = HOP_BY_HOP | REQUEST_OURS


def connection_tokens(headers: Iterable[Header]) -> frozenset[bytes]:
    """The header names that a `Connection` header declares to be for this connection only."""
    tokens = {
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    }
    return frozenset(tokens - {b"", b"close", b"keep-alive"})


def build_request_head(
    method: bytes,
    target: bytes,
    headers: Sequence[Header],
    *,
    host: bytes,
    request_id: bytes,
    token: bytes | None,
    content_length: int | None,
) -> bytes:
    """The request line and headers for the engine, ready to be written.

    `content_length` None means that the body's length is not known: it must be sent in chunks.
    """
    dropped = connection_tokens(headers)
    lines = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    for name, value in headers:
        if name not in _NEVER_SENT and name not in dropped:
            lines += (name, b": ", value, b"\r\n")
    lines += (b"x-request-id: ", request_id, b"\r\n")
    if token:
        lines += (b"authorization: Bearer ", token, b"\r\n")
    if content_length is None:
        lines.append(b"transfer-encoding: chunked\r\n\r\n")
    elif content_length or method not in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
        lines.append(b"content-length: %d\r\n\r\n" % content_length)
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def response_headers(headers: Sequence[Header]) -> list[Header]:
    """What of a response's headers the client gets: all but the hop-by-hop ones, in their order."""
    dropped = connection_tokens(headers)
    return [pair for pair in headers if pair[0] not in HOP_BY_HOP and pair[0] not in dropped]


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body. Empty data would end the body, so it gives nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
