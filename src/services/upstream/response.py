"""Bytes of an engine in, one response after another out. Pure: no clock, no I/O.

The parsing itself is httptools' (llhttp, the parser of Node.js); here is what a proxy must add: which messages are
interim, when a body ends that only the end of the connection can end, what is ambiguous and therefore refused, and
how much an engine may send before it has said anything useful.

The phases of one response: HEAD until its final head is complete, BODY until its body is, DONE until the reader has
taken everything. IDLE is between responses; bytes that come then belong to nothing.
"""

from enum import Enum, auto

import httptools

from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.upstream.headers import Header

#: Bytes and number of headers of one response. A rented machine may send anything; nginx stops at 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()


class ResponseReader:
    """Reads the responses of one connection, in order. Attributes are for reading, but for `chunks`."""

    __slots__ = (
        "_chunked",
        "_head_bytes",
        "_head_only",
        "_interim",
        "_parser",
        "buffered",
        "chunks",
        "headers",
        "keep_alive",
        "length",
        "phase",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._interim = False
        self.phase = Phase.IDLE
        self.chunks: list[bytes] = []
        """Body pieces that have not been taken."""
        self.buffered = 0
        """Their bytes."""
        self._expect(head_only=False)

    def _expect(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._head_bytes = 0
        self._chunked = False
        self.headers: list[Header] = []
        self.status = 0
        self.length: int | None = None
        self.keep_alive = False

    def begin(self, *, head_only: bool) -> None:
        """A request goes out: expect its response. `head_only`: it has no body whatever its headers say (HEAD)."""
        assert self.phase is Phase.IDLE
        self._expect(head_only=head_only)
        self.phase = Phase.HEAD

    def feed(self, data: bytes) -> None:
        """Bytes have arrived. Raises BackendProtocolError, after which nothing more can be read."""
        if self.phase is Phase.IDLE or self.phase is Phase.DONE:
            self.keep_alive = False  # bytes that nobody asked for: no request may follow on this connection
            return
        if self.phase is Phase.HEAD:
            self._head_bytes += len(data)
        self._parse(data)
        if self.phase is Phase.HEAD and self._head_bytes > MAX_HEAD_BYTES:
            raise _refused(f"its headers are longer than {MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise _refused("it switched protocols without being asked to") from None
        except httptools.HttpParserError as error:
            if self.phase is not Phase.DONE:
                raise _refused(str(error.__context__ or error)) from None
            self.keep_alive = False  # the response was whole; what follows it is not

    def end(self) -> bool:
        """The other side will send nothing more. Is the response complete with that?"""
        if self.phase is Phase.BODY and self.length is None and not self._chunked:
            self.phase = Phase.DONE
        return self.phase is Phase.DONE

    def take(self) -> bytes:
        """All of the body that waits. After the last of it the reader is IDLE again."""
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        self.buffered = 0
        if self.phase is Phase.DONE:
            self.phase = Phase.IDLE
        return data

    @property
    def received(self) -> bool:
        """Has anything come of the response that is expected?"""
        return self._head_bytes > 0

    # ── called by httptools ────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self.phase is not Phase.HEAD:
            raise ValueError("it sent an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is not Phase.HEAD:
            return  # a trailer: it came after the headers that the client already has
        name = name.lower()
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADERS:
            raise ValueError(f"it has more than {MAX_HEADERS} headers")
        if name == b"content-length":
            if self.length is not None or not value.isdigit():
                raise ValueError("its Content-Length is ambiguous")
            self.length = int(value)
        elif name == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self._chunked and self.length is not None:
            raise ValueError("it has both Transfer-Encoding and Content-Length")
        if not 100 <= self.status <= 599:
            raise ValueError(f"its status {self.status} does not exist")
        self._interim = self.status < 200
        if not self._interim:
            self.phase = Phase.DONE if self._head_only else Phase.BODY

    def on_body(self, body: bytes) -> None:
        if not self._head_only:
            self.chunks.append(body)
            self.buffered += len(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self.headers, self.length, self._chunked = [], None, False
            return
        self.phase = Phase.DONE
        self.keep_alive = self._parser.should_keep_alive() and not self._head_only


def _refused(why: str) -> BackendProtocolError:
    return BackendProtocolError(f"the engine's answer is not valid HTTP: {why}")
