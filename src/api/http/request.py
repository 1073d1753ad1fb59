"""Bytes of a client in, one request after another out. Pure: no clock, no I/O.

One request is read at a time. What comes behind its end stays here, unread, until the request has been answered and
`next` is called; so the order of a pipelining client's answers needs no bookkeeping, and its bound is the bytes
that are kept.

Whatever bytes arrive in whatever pieces, the reader either refuses the connection or yields exactly the messages
that a strict reading of RFC 9112 yields, with the borders it gives them.
"""

import re
from collections.abc import Sequence

from vastproxy.api.http.message import BadRequest, HeadFacts, Request, again
from vastproxy.services.http1.chunked import ChunkedReader
from vastproxy.services.http1.fields import FieldTable, marked
from vastproxy.services.http1.framing import CodingError, keeps_alive, request_framing, tokens
from vastproxy.services.http1.grammar import (
    GrammarError,
    HeadBuffer,
    VersionError,
    parse_request_line,
)
from vastproxy.services.http1.headers import request_fields
from vastproxy.services.http1.recurring import LastHead

__all__ = ["BadRequest", "HeadFacts", "Request", "RequestReader"]

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*+://([^/?]*+)(.*+)")
_BLANK_LINES = re.compile(rb"(?:\r\n)++")
_HOST_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=:[]"
_NO_TOKENS: frozenset[bytes] = frozenset()


class RequestReader:
    """See the module's docstring. `request` is there once its head is complete, until `next`."""

    __slots__ = (
        "_begins",
        "_buffer",
        "_chunks",
        "_fields",
        "_last",
        "_left",
        "_max_head_bytes",
        "_max_headers",
        "complete",
        "request",
        "rest",
    )

    def __init__(
        self, fields: FieldTable | None = None, *, max_head_bytes: int = 64 * 1024, max_headers: int = 100
    ) -> None:
        """`fields`: lines that other connections have read already, so that they need not be read again."""
        self._fields = request_fields() if fields is None else fields
        self._max_head_bytes = max_head_bytes
        self._max_headers = max_headers
        self._buffer: HeadBuffer | None = None
        self._chunks: ChunkedReader | None = None
        self._left = 0
        self._begins = b""
        self._last: LastHead[Request] = LastHead()
        self.request: Request | None = None
        self.complete = False
        """Has the whole body come?"""
        self.rest = b""
        """What waits behind the present request."""

    @property
    def idle(self) -> bool:
        """Has nothing come yet of a request?"""
        return self.request is None and self._buffer is None

    @property
    def _in_body(self) -> bool:
        return self.request is not None and not self.complete

    @property
    def is_head(self) -> bool:
        """Does the present request, or what was refused as one, begin like a HEAD, whose answer has no body?"""
        return self._begins.startswith(b"HEAD ")

    def feed(self, data: bytes) -> bytes:
        """Bytes have arrived; returns what of the present request's body they carry. Raises BadRequest."""
        if self.complete:
            self.rest += data
            return b""
        try:
            if self.request is None:
                if self._buffer is None and (found := self._last.find(data)) is not None:
                    request, length, end = found
                    if length is not None and end <= self._max_head_bytes:
                        return self._again(request, length, data, end)
                data = self._head(data)
                if not self._in_body or not data:
                    if data:
                        self.rest = data
                    return b""
            return self._body(data)
        except GrammarError as error:
            raise BadRequest(_status_of(error), f"The request {error}.") from None

    def next(self) -> bytes:
        """The present request has been answered: forget it. Returns what came behind it, to be fed again."""
        assert self.complete
        self.request = self._chunks = None
        self.complete = False
        rest = self.rest
        if rest:
            self.rest = b""
        return rest

    def _head(self, data: bytes) -> bytes:
        while data:
            if self._buffer is None:
                if data.startswith(b"\r\n"):  # RFC 9112 §2.2: some clients end a body with a CRLF too many
                    data = _BLANK_LINES.sub(b"", data, 1)
                    continue
                end = data.find(b"\r\n\r\n") + 4
                if 4 <= end <= self._max_head_bytes:
                    self._take_head(data[:end])
                    return data[end:]
                self._buffer = HeadBuffer(self._max_head_bytes)
            try:
                found = self._buffer.feed(data)
            except OverflowError:
                raise self._too_long() from None
            if found is None:
                return b""
            self._buffer = None
            head, data = found
            while head.startswith(b"\r\n"):  # one that came in two pieces
                head = head[2:]
            if head:
                self._take_head(head)
                return data
        return b""

    def _too_long(self) -> BadRequest:
        assert self._buffer is not None
        if self._buffer.in_first_line:
            return BadRequest(414, f"The request line is longer than {self._max_head_bytes} bytes.")
        return BadRequest(431, f"The request's headers are longer than {self._max_head_bytes} bytes.")

    def _again(self, last: Request, length: int, data: bytes, end: int) -> bytes:
        """The last head has come again, up to `end`, announcing this length. Returns what came of the body."""
        self.request = last if length == last.framing.length else again(last, length)
        left = length - len(data) + end
        if left > 0:
            self._left = left
            return data[end:]
        self.complete = True
        self._left = 0
        if left < 0:
            self.rest = data[left:]
            return data[end:left]
        return data[end:]

    def _take_head(self, raw: bytes) -> None:
        """Read a whole head – unless it is the last one again, but for the length of the body."""
        found = self._last.find(raw)
        if found is not None:
            last, length, _ = found
            if length is not None and length != last.framing.length:
                last = again(last, length)
            self._expect(last)
            return
        self._begins = raw[:8]
        request = self._read_head(raw)
        self._last.keep(raw, request, has_length=bool(request.framing.length))
        self._expect(request)

    def _expect(self, request: Request) -> None:
        self.request = request
        framing = request.framing
        self._left = framing.length or 0
        if framing.chunked:
            self._chunks = ChunkedReader()
        self.complete = not (framing.chunked or framing.length)

    def _read_head(self, raw: bytes) -> Request:
        method, target, minor, begin = parse_request_line(raw)
        fields = self._fields.read(raw, begin)
        if len(fields) > self._max_headers:
            raise BadRequest(431, f"The request has more than {self._max_headers} headers.")
        known = marked(fields)
        framing = request_framing(
            minor, known.get(b"content-length", ()), known.get(b"transfer-encoding", ())
        )
        target, authority = _origin_form(method, target)
        host = _host(known.get(b"host", ()), minor)
        expects = b"expect" in known and _expects_continue(known[b"expect"], minor)
        connection = tokens(known[b"connection"]) if b"connection" in known else _NO_TOKENS
        has_body = framing.chunked or bool(framing.length)
        request = Request(
            method,
            target,
            fields,
            minor,
            framing,
            connection,
            known,
            host=authority or host,
            keep_alive=keeps_alive(minor, connection),
            expects_continue=expects and has_body,
            takes_trailers=b"te" in known and minor > 0 and b"trailers" in tokens(known[b"te"]),
        )
        if b"upgrade" in known:
            request.upgrade = _upgrade(known[b"upgrade"], connection, minor, has_body=has_body)
        return request

    def _body(self, data: bytes) -> bytes:
        chunks = self._chunks
        if chunks is not None:
            data = chunks.feed(data)
            if chunks.done:
                self.complete = True
                self.rest = chunks.rest
            return data
        left = self._left - len(data)
        if left <= 0:
            self.complete = True
            if left < 0:
                self.rest = data[self._left :]
                data = data[: self._left]
            left = 0
        self._left = left
        return data


def _status_of(error: GrammarError) -> int:
    if isinstance(error, VersionError):
        return 505
    return 501 if isinstance(error, CodingError) else 400


def _origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes]:
    """The target as it is sent on, and the authority of an absolute one (RFC 9112 §3.2)."""
    if method == b"CONNECT":
        raise BadRequest(405, "CONNECT is not possible: this is no forward proxy.")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest(400, "The request's target is not a path.")
    authority, rest = absolute.groups()
    if not authority or authority.translate(None, _HOST_CHARACTERS):
        raise BadRequest(400, "The request's target has a malformed host.")
    if not rest and method == b"OPTIONS":
        return b"*", authority
    return (rest if rest.startswith(b"/") else b"/" + rest), authority


def _host(values: Sequence[bytes], minor: int) -> bytes:
    if len(values) > 1 or (not values and minor > 0):
        raise BadRequest(400, "The request must have exactly one Host header.")
    host = values[0] if values else b""
    if host.translate(None, _HOST_CHARACTERS):
        raise BadRequest(400, "The request has a malformed Host header.")
    return host


def _expects_continue(values: Sequence[bytes], minor: int) -> bool:
    if not values or minor == 0:  # RFC 9110 §10.1.1: of HTTP/1.0 it must be ignored
        return False
    if any(value.lower() != b"100-continue" for value in values):
        raise BadRequest(417, "The only expectation that can be met is 100-continue.")
    return True


def _upgrade(values: Sequence[bytes], connection: frozenset[bytes], minor: int, *, has_body: bool) -> bytes:
    """What to offer the engine. HTTP/2 in clear text is an offer that clients make to everybody; it is declined."""
    if not values or minor == 0 or has_body or b"upgrade" not in connection:
        return b""
    offered = [offer.strip(b" \t") for value in values for offer in value.split(b",")]
    return b", ".join(offer for offer in offered if offer and offer.lower() not in (b"h2c", b"h2"))
