"""Headers on their way through a proxy: which stay on this connection, which travel. Pure bytes in, bytes out.

Header names are lower case here, values are what the sender wrote.
"""

from collections.abc import Collection, Iterable, Sequence
from http import HTTPStatus
from typing import get_args

from vastproxy.services.http1.fields import Field, FieldTable, wire
from vastproxy.services.http1.grammar import Header
from vastproxy.settings.model import Credential

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
        b"x-vastproxy-priority",
    }
)
#: What proves to us, or to somebody else, who the client is. A rented machine is none of them, and could use it.
CREDENTIALS = frozenset(name.encode() for name in get_args(Credential))
#: A page's WebSocket can bring its key only among the protocols (platform.openai.com/docs/guides/realtime, 2026).
_KEY_PROTOCOL = b"openai-insecure-api-key."
#: Engines that may set no cookies on this host: they would be sent to all that it serves, on other ports as well.
_COOKIES = frozenset({b"set-cookie", b"set-cookie2"})
#: Ours to write on answers, whatever the engine sent: who served, and what browsers are told of this host, where a
#: rented machine has no say (CORS, fetch.spec.whatwg.org; RFC 6797; RFC 7838).
RESPONSE_OURS = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
        b"alt-svc",
        b"clear-site-data",
        b"public-key-pins",
        b"service-worker-allowed",
        b"strict-transport-security",
        b"x-request-id",
        b"x-vastproxy-instance",
    }
)

_NEVER_SENT = HOP_BY_HOP | REQUEST_OURS | CREDENTIALS
_NEVER_RETURNED = HOP_BY_HOP | RESPONSE_OURS
#: Fields that change how a message is read: senseless or dangerous behind its body (RFC 9110 §6.5.1).
_NEVER_TRAILING = (
    HOP_BY_HOP
    | RESPONSE_OURS
    | {b"content-length", b"content-type", b"content-encoding", b"content-range", b"host", b"set-cookie"}
)
_RESPONSE_READ = frozenset({b"connection", b"content-length", b"transfer-encoding"})
#: Methods that are sent without a length when they have no body.
_BODYLESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"})
#: Tokens of `Connection` that name no header to be dropped. A length is for everybody on the way: without it nobody
#: would know where the body ends.
_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"content-length"})


#: Request headers that are read on our side, besides those that decide about the connection.
_REQUEST_READ = (
    frozenset(
        {
            b"connection",
            b"content-type",
            b"origin",
            b"sec-fetch-mode",
            b"sec-fetch-site",
            b"te",
            b"transfer-encoding",
            b"upgrade",
        }
    )
    | REQUEST_OURS
)


def request_fields() -> FieldTable:
    """A table for the header lines of requests."""
    return FieldTable(never=_NEVER_SENT, marked=_REQUEST_READ)


def response_fields(*, cookies: bool = False) -> FieldTable:
    """A table for the header lines of responses. `cookies`: may they be set?"""
    never = _NEVER_RETURNED if cookies else _NEVER_RETURNED | _COOKIES
    return FieldTable(never=never, marked=_RESPONSE_READ)


def request_message(
    method: bytes,
    target: bytes,
    first: bytes,
    lines: bytes,
    last: bytes,
    length: int | None,
    body: bytes = b"",
) -> bytes:
    """A request for the engine, as far as it goes: the head and the `body` behind it. `first`, `lines`, `last`: header
    lines, each with its CRLF; in pieces, because the whole is put together once.

    `length` None means that the body's length is not known: it must be sent in chunks.
    """
    if length is None:
        end = b"transfer-encoding: chunked\r\n\r\n"
    elif length or method not in _BODYLESS:
        end = b"content-length: %d\r\n\r\n" % length
    else:
        end = b"\r\n"
    return b"".join((method, b" ", target, b" HTTP/1.1\r\n", first, lines, last, end, body))


def dropped_names(connection: frozenset[bytes]) -> frozenset[bytes]:
    """The header names among the tokens of `Connection`: they are for that connection only."""
    return connection - _CONNECTION_OPTIONS if connection else connection


def sent_lines(
    fields: Sequence[Field], connection: frozenset[bytes], passed: Collection[bytes] = ()
) -> bytes:
    """What of a request's header lines the engine gets, in their order. `passed`: those of the CREDENTIALS that it is
    sent, behind all others."""
    dropped = dropped_names(connection)
    lines = wire(fields, dropped)
    if _KEY_PROTOCOL in lines:
        lines = b"".join(map(_without_key, lines.splitlines(keepends=True)))
    if passed:
        names = frozenset(passed) - dropped
        lines += lines_of([each.header for each in fields if each.header[0] in names])
    return lines


def _without_key(line: bytes) -> bytes:
    """A header line without the key that a page's WebSocket brings; nothing if there is nothing else in it."""
    name, _, value = line.partition(b": ")
    if name != b"sec-websocket-protocol":
        return line
    offers = [offer.strip() for offer in value.split(b",")]
    kept = [offer for offer in offers if not offer.startswith(_KEY_PROTOCOL)]
    return lines_of([(name, b", ".join(kept))]) if kept else b""


def returned_lines(fields: Sequence[Field], connection: frozenset[bytes], *, status: int = 200) -> bytes:
    """What of a response's header lines the client gets, in their order."""
    dropped = dropped_names(connection)
    if status < 200 or status == 204:
        # RFC 9110 §8.6: they must not have a length, and some clients would wait for that many bytes.
        dropped = dropped | {b"content-length"}
    elif status in (307, 308):
        # Clients repeat the request there, body and key and all: not where a rented machine wants it.
        dropped = dropped | {b"location"}
    return wire(fields, dropped)


def switched_lines(fields: Sequence[Field], connection: frozenset[bytes]) -> bytes:
    """As `returned_lines` for an answer that changes the protocol, which is said to the client again."""
    protocol = [field.header for field in fields if field.header[0] == b"upgrade"]
    return returned_lines(fields, connection, status=101) + lines_of([(b"connection", b"upgrade"), *protocol])


def lines_of(headers: Iterable[Header]) -> bytes:
    """Headers as lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def headers_of(lines: bytes) -> list[Header]:
    """The headers in lines of our own making."""
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n") if line]
    return [(name, value) for name, _, value in pairs]


def returned_trailers(trailers: Sequence[Header]) -> list[Header]:
    """What of a response's trailers the client gets."""
    return [pair for pair in trailers if pair[0] not in _NEVER_TRAILING]


def _status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\n".encode("ascii")


#: `HTTP/1.1 <status> <its usual reason>` and the line's end, for 100 to 599.
STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body. Empty data would end the body, so it gives nothing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Sequence[Header] = ()) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % lines_of(trailers)


LAST_CHUNK = b"0\r\n\r\n"
