"""Headers on their way through a proxy: which stay on this connection, which travel. Pure bytes in, bytes out.

Header names are lower case here, values are what the sender wrote.
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus

from vastproxy.services.http1.grammar import Header

#: RFC 9110 §7.6.1 and the older names that still turn up. They speak to the next machine, not to the last.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
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

#: Not hop-by-hop, but ours to decide: the engine gets our host and its own token; the expectation, the length and
#: what is told of the client are written again; the pin is a word between the client and us.
REQUEST_OURS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
        b"x-vastproxy-instance",
    }
)
#: Ours to write on answers, whatever the engine sent.
RESPONSE_OURS = frozenset({b"x-vastproxy-instance", b"x-request-id"})

_NEVER_SENT = HOP_BY_HOP | REQUEST_OURS
_NEVER_RETURNED = HOP_BY_HOP | RESPONSE_OURS
#: Fields that change how a message is read: senseless or dangerous behind its body (RFC 9110 §6.5.1).
_NEVER_TRAILING = (
    HOP_BY_HOP
    | RESPONSE_OURS
    | {b"content-length", b"content-type", b"content-encoding", b"content-range", b"host", b"set-cookie"}
)
#: Methods that are sent without a length when they have no body.
_BODYLESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
#: Tokens of `Connection` that name no header to be dropped. A length is for everybody on the way: without it nobody
#: would know where the body ends.
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"content-length"})


def request_head(
    method: bytes,
    target: bytes,
    headers: Iterable[Header],
    *,
    dropped: frozenset[bytes],
    extra: bytes,
    length: int | None,
) -> bytes:
    """The request line and headers for the engine, ready to be written.

    `dropped`: more names that are not sent on, the tokens of `Connection`. `extra`: header lines of ours,
    each with its CRLF. `length` None means that the body's length is not known: it must be sent in chunks.
    """
    never = _NEVER_SENT | dropped if dropped else _NEVER_SENT
    lines = [method, b" ", target, b" HTTP/1.1\r\n"]
    for name, value in headers:
        if name not in never:
            lines += (name, b": ", value, b"\r\n")
    lines.append(extra)
    if length is None:
        lines.append(b"transfer-encoding: chunked\r\n\r\n")
    elif length or method not in _BODYLESS:
        lines.append(b"content-length: %d\r\n\r\n" % length)
    else:
        lines.append(b"\r\n")
    return b"".join(lines)


def dropped_names(connection: frozenset[bytes]) -> frozenset[bytes]:
    """The header names among the tokens of `Connection`: they are for that connection only."""
    return connection - _CONNECTION_OPTIONS if connection else connection


def returned_headers(
    headers: Sequence[Header], connection: frozenset[bytes], *, status: int = 200
) -> list[Header]:
    """What of a response's headers the client gets, in their order."""
    never = _NEVER_RETURNED
    if connection and (dropped := dropped_names(connection)):
        never = never | dropped
    if status < 200 or status == 204:
        # RFC 9110 §8.6: they must not have a length, and some clients would wait for that many bytes.
        never = never | {b"content-length"}
    return [pair for pair in headers if pair[0] not in never]


def switched_headers(headers: Sequence[Header], connection: frozenset[bytes]) -> list[Header]:
    """As `returned_headers` for an answer that changes the protocol, which is said to the client again."""
    protocol = [pair for pair in headers if pair[0] == b"upgrade"]
    return [*returned_headers(headers, connection, status=101), (b"connection", b"upgrade"), *protocol]


def returned_trailers(trailers: Sequence[Header]) -> list[Header]:
    """What of a response's trailers the client gets."""
    return [pair for pair in trailers if pair[0] not in _NEVER_TRAILING]


def status_line(status: int) -> bytes:
    """`HTTP/1.1 <status> <its usual reason>` and the line's end. `status`: 100 to 599."""
    return _STATUS_LINES[status]


def _status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n".encode("ascii")


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


def head_lines(lines: list[bytes], headers: Iterable[Header]) -> None:
    """Append the headers to the pieces of a head."""
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body. Empty data would end the body, so it gives nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Sequence[Header] = ()) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    lines = [b"0\r\n"]
    head_lines(lines, trailers)
    lines.append(b"\r\n")
    return b"".join(lines)


LAST_CHUNK = b"0\r\n\r\n"
