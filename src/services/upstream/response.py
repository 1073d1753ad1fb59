"""Bytes of an engine in, one response after another out. Pure: no clock, no I/O.

The phases of one response: HEAD until its final head is complete, BODY until its body is, then DONE; SWITCHED when
the engine changed to another protocol. IDLE is before the next request; bytes that come in IDLE or DONE belong to
nothing and spoil the connection for further requests.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.http1.chunked import ChunkedReader
from vastproxy.services.http1.fields import FieldTable, marked
from vastproxy.services.http1.framing import Framing, keeps_alive, response_framing, tokens
from vastproxy.services.http1.grammar import GrammarError, HeadBuffer, Header, parse_status_line
from vastproxy.services.http1.headers import headers_of, response_fields, returned_lines, switched_lines
from vastproxy.services.http1.recurring import LastHead

#: Bytes and number of headers of one response. A rented machine may send anything; nginx stops at 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
#: Interim responses before the final one. Engines send one 100 and perhaps a few 103.
MAX_INTERIM = 32


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()
    SWITCHED = auto()


#: The phases by their names alone: in CPython 3.11 looking one up in its class costs five times as much.
IDLE, HEAD, BODY, DONE, SWITCHED = Phase


@dataclass(slots=True)  # not frozen, which would double what making one costs
class ResponseHead:
    """`lines`: the header lines that travel. `length`: bytes of the body, None when its end is not known before it
    comes. `has_body` is False for those that never have one: answers to HEAD, 204, 304."""

    status: int
    lines: bytes
    length: int | None
    has_body: bool

    @property
    def headers(self) -> list[Header]:
        """Names in lower case and values of those that travel."""
        return headers_of(self.lines)


class _Read(NamedTuple):
    """What was made of a head. `before`, `behind`: its lines around the digits of the length that it announces."""

    head: ResponseHead
    framing: Framing
    keep_alive: bool
    before: bytes
    behind: bytes


_NO_TOKENS: frozenset[bytes] = frozenset()
_LENGTH = re.compile(rb"(?:\A|(?<=\n))content-length: (\d++)\r\n")


class ResponseReader:
    """Reads the responses of one connection, in order. Attributes are for reading, but for `interim`."""

    __slots__ = (
        "_buffer",
        "_fields",
        "_head_only",
        "_interim_count",
        "_last",
        "_left",
        "_may_switch",
        "_until_close",
        "chunks",
        "head",
        "interim",
        "keep_alive",
        "phase",
        "received",
    )

    def __init__(self, fields: FieldTable | None = None) -> None:
        """`fields`: lines that other connections have read already, so that they need not be read again."""
        self._fields = response_fields() if fields is None else fields
        self._buffer: HeadBuffer | None = None
        self._last: LastHead[_Read] = LastHead()
        self._head_only = False
        self._may_switch = False
        self._until_close = False
        self._interim_count = 0
        self._left = 0
        self.phase = IDLE
        self.chunks: ChunkedReader | None = None
        """Who reads the body, if it comes in chunks."""
        self.head: ResponseHead | None = None
        """The final head, once it has come."""
        self.interim: list[tuple[int, bytes]] = []
        """Interim responses (1xx) that nobody has taken yet, with those of their header lines that travel."""
        self.keep_alive = True
        """May another request follow? Meant for IDLE and DONE."""
        self.received = False
        """Has anything come of the response that is expected?"""

    def begin(self, head_only: bool, may_switch: bool = False) -> None:
        """A request goes out: expect its response. `head_only`: it has no body whatever its headers say (HEAD).
        `may_switch`: the request offered another protocol."""
        assert self.phase is IDLE or self.phase is DONE
        self._head_only = head_only
        self._may_switch = may_switch
        self._until_close = False
        self.chunks = None
        self._interim_count = 0
        self.head = None
        self.keep_alive = False
        self.received = False
        self.phase = HEAD

    def feed(self, data: bytes) -> bytes:
        """Bytes have arrived; returns what of the body they carry (when SWITCHED: what follows the head).

        Raises BackendProtocolError, after which nothing more can be read.
        """
        try:
            if self.phase is BODY:
                chunks = self.chunks
                if chunks is None:
                    return self._sized_body(data)
                data = chunks.feed(data)
                if chunks.done:
                    self.phase = DONE
                    if chunks.rest:
                        self.keep_alive = False
                return data
            if self.phase is HEAD:
                self.received = True
                if self._buffer is None and not self._head_only:
                    found = self._last.find(data)
                    if found is not None and found[2] <= MAX_HEAD_BYTES:
                        return self._again(data, found)
                return self._heads(data)
        except GrammarError as error:
            raise BackendProtocolError(f"the engine's answer is not valid HTTP: it {error}") from None
        except OverflowError:
            raise BackendProtocolError(
                f"the engine's answer is not valid HTTP: its headers are longer than {MAX_HEAD_BYTES} bytes"
            ) from None
        if self.phase is SWITCHED:
            return data
        self.keep_alive = False  # bytes that nobody asked for: no request may follow on this connection
        return b""

    def end(self) -> bool:
        """The other side will send nothing more. Is the response complete with that?"""
        if self.phase is BODY and self._until_close:
            self.phase = DONE
        return self.phase is DONE

    @property
    def trailers(self) -> list[Header]:
        """What came behind a chunked body."""
        return self.chunks.trailers if self.chunks is not None else []

    def _heads(self, data: bytes) -> bytes:
        while True:
            end = data.find(b"\r\n\r\n") + 4 if self._buffer is None else 0
            if 4 <= end <= MAX_HEAD_BYTES:
                head, rest = data[:end], data[end:]
            else:
                if self._buffer is None:
                    self._buffer = HeadBuffer(MAX_HEAD_BYTES, prefix=b"HTTP/1.")
                found = self._buffer.feed(data)
                if found is None:
                    return b""
                self._buffer = None
                head, rest = found
            self._take_head(head)
            if self.phase is HEAD:
                if rest:
                    data = rest
                    continue
                return b""
            return self.feed(rest) if rest else b""

    def _again(self, data: bytes, found: tuple[_Read, int | None, int]) -> bytes:
        """The last head was found in `data`. Returns what came of the body."""
        read, length, end = found
        if length is None:
            self._take(read.head, read)
            return self.feed(data[end:]) if end < len(data) else b""
        self.head = read.head if length == read.head.length else _with_length(read, length)
        left = length - len(data) + end
        if left > 0:
            self.keep_alive = read.keep_alive
            self.phase = BODY
            self._left = left
            return data[end:]
        self.phase = DONE
        if left < 0:  # more than it announced
            return data[end:left]
        self.keep_alive = read.keep_alive
        return data[end:]

    def _take_head(self, raw: bytes) -> None:
        """Read a whole head – unless it is the last one again, but for the length of the body."""
        found = None if self._head_only else self._last.find(raw)
        if found is None:
            self._read_head(raw)
        else:
            read, length, _ = found
            self._take(read.head if length is None else _with_length(read, length), read)

    def _take(self, head: ResponseHead, read: _Read) -> None:
        """The final head has come."""
        self.head = head
        self.keep_alive = read.keep_alive
        self._expect_body(read.framing.chunked, head.length if head.has_body else 0)

    def _read_head(self, raw: bytes) -> None:
        minor, status, begin = parse_status_line(raw)
        fields = self._fields.read(raw, begin)
        if len(fields) > MAX_HEADERS:
            raise GrammarError(f"has more than {MAX_HEADERS} headers")
        known = marked(fields)
        words = tokens(known[b"connection"]) if b"connection" in known else _NO_TOKENS
        if status < 200 and status != 101:
            self._take_interim(status, returned_lines(fields, words, status=status))
            return
        if status == 101:
            if not self._may_switch:
                raise GrammarError("switches protocols without being asked to")
            self.phase = SWITCHED
            self.head = ResponseHead(status, switched_lines(fields, words), None, has_body=False)
            return
        framing = response_framing(
            minor,
            status,
            known.get(b"content-length", ()),
            known.get(b"transfer-encoding", ()),
            head_only=self._head_only,
        )
        has_body = not (self._head_only or status in (204, 304))
        length = framing.length if has_body else None
        lines = returned_lines(fields, words, status=status)
        head = ResponseHead(status, lines, length, has_body)
        read = _Read(head, framing, keeps_alive(minor, words), *_around_length(lines))
        if has_body:
            self._last.keep(raw, read, has_length=bool(length))
        self._take(head, read)

    def _take_interim(self, status: int, lines: bytes) -> None:
        self._interim_count += 1
        if self._interim_count > MAX_INTERIM:
            raise GrammarError(f"has more than {MAX_INTERIM} interim responses before it")
        self.interim.append((status, lines))

    def _expect_body(self, chunked: bool, length: int | None) -> None:
        self.phase = BODY
        if chunked:
            self.chunks = ChunkedReader()
        elif length is None:
            self._until_close = True
            self.keep_alive = False
        elif length:
            self._left = length
        else:
            self.phase = DONE

    def _sized_body(self, data: bytes) -> bytes:
        if self._until_close:
            return data
        left = self._left - len(data)
        if left < 0:
            data = data[: self._left]
            self.keep_alive = False
            left = 0
        self._left = left
        if not left:
            self.phase = DONE
        return data


def _with_length(read: _Read, length: int) -> ResponseHead:
    return ResponseHead(read.head.status, b"%b%d%b" % (read.before, length, read.behind), length, True)


def _around_length(lines: bytes) -> tuple[bytes, bytes]:
    """Header lines of ours, before and behind the digits of their Content-Length; all before if there is none."""
    found = _LENGTH.search(lines)
    return (lines[: found.start(1)], lines[found.end(1) :]) if found is not None else (lines, b"")
