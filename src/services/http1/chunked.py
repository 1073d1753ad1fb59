"""Bodies in chunks (RFC 9112 §7.1): bytes in, body out. Pure and strict.

The size is hexadecimal digits and nothing else, every line ends with CRLF, and data is followed by CRLF exactly
where its size says. Extensions are read over. Trailers are kept for whoever wants them.
"""

import re
from enum import Enum, auto

from vastproxy.services.http1.grammar import GrammarError, Header, parse_fields

#: Bytes of one chunk's size line (sizes are short, extensions nearly unknown), and of all trailers together.
MAX_SIZE_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 16 * 1024

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_EXTENSION = re.compile(rb"[ \t]*+;[^\x00-\x08\x0a-\x1f\x7f]*+")


#: Longest chunk, with its frame, that is recognised by its length.
_USUAL_BYTES = 4096


class _Place(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    OVER = auto()


#: By their names alone: in CPython 3.11 looking one up in its class costs five times as much.
_IN_SIZE, _IN_DATA, _IN_DATA_END, _IN_TRAILERS, _OVER = _Place


def _size_line(length: int) -> bytes:
    """How a whole chunk of so many bytes, with its frame, begins. Where there can be none: more than it has."""
    for digits in (1, 2, 3):
        size = length - digits - 4
        if size > 1 and len(b"%x" % size) == digits:
            return b"%x\r\n" % size
    return b"." * (length + 1)


_SIZE_LINES = [_size_line(length) for length in range(_USUAL_BYTES)]


def event_bytes(data: bytes) -> int:
    """How much of a body there is in what is one whole chunk that ends with a blank line, framed as `headers.chunk`
    does it: that is how every token of a stream arrives. 0 for anything else."""
    length = len(data)
    if length < _USUAL_BYTES and data[-4:] == b"\n\n\r\n":
        line = _SIZE_LINES[length]
        begin = len(line)
        if data[:begin] == line:
            return length - begin - 2
    return 0


class ChunkedReader:
    """Reads one chunked body. `rest` is what came behind its end."""

    __slots__ = ("_left", "_line", "_place", "done", "is_between", "rest", "trailers")

    def __init__(self) -> None:
        self._place = _IN_SIZE
        self._left = 0
        self._line = b""
        self.trailers: list[Header] = []
        self.rest = b""
        self.done = False
        """Has the body ended?"""
        self.is_between = True
        """May a chunk begin with the next byte?"""

    def feed(self, data: bytes) -> bytes:
        """Bytes have arrived; what of the body they carry. Raises GrammarError. Not after `done`."""
        length = len(data)
        if self.is_between and length < _USUAL_BYTES:
            # One whole chunk, nothing else: that is how every token of a stream arrives.
            line = _SIZE_LINES[length]
            if data.startswith(line) and data.endswith(b"\r\n"):
                return data[len(line) : -2]
        pieces = self._pieces(data)
        self.is_between = self._place is _IN_SIZE and not self._line
        return b"".join(pieces)

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and self._place is not _OVER:
            if self._place is _IN_DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._place = _IN_DATA_END
            elif self._place is _IN_TRAILERS:
                position = self._read_trailers(data, position)
            else:
                position = self._read_line(data, position)
        if self._place is _OVER:
            self.done = True
            self.rest = data[position:]
        return pieces

    def _read_line(self, data: bytes, position: int) -> int:
        """Take a size line, or the end of a chunk's data; a part of it is kept until the rest comes."""
        limit = 2 if self._place is _IN_DATA_END else MAX_SIZE_LINE_BYTES
        end = data.find(b"\n", position)
        line = self._line + (data[position : end + 1] if end >= 0 else data[position:])
        if len(line) > limit or not (b"\r\n".startswith(line) or self._place is _IN_SIZE):
            raise GrammarError("has a chunk that does not end where its size says or a size line without end")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        if self._place is _IN_DATA_END:
            self._place = _IN_SIZE
        else:
            self._take_size(line)
        return end + 1

    def _take_size(self, line: bytes) -> None:
        digits = _SIZE.match(line)
        if digits is None or not line.endswith(b"\r\n"):
            raise GrammarError("has a malformed chunk size")
        behind = line[digits.end() : -2]
        if behind and _EXTENSION.fullmatch(behind) is None:
            raise GrammarError("has a malformed chunk size")
        self._left = int(digits[0], 16)
        if self._left:
            self._place = _IN_DATA
        else:
            self._place = _IN_TRAILERS
            self._line = b"\n"  # so that the first trailer line stands behind the end of another

    def _read_trailers(self, data: bytes, position: int) -> int:
        """Trailers end with a blank line, as heads do; without any there is just the blank line."""
        before = len(self._line)
        block = self._line + data[position:]
        if block.startswith(b"\n\r\n"):
            end = 3
        else:
            end = block.find(b"\r\n\r\n", max(before - 3, 0)) + 4
            if end < 4:
                if len(block) > MAX_TRAILER_BYTES:
                    raise GrammarError("has endless trailers")
                new = before - block.startswith(b"\r", before - 1)
                if block.count(b"\n", new) != block.count(b"\r\n", new):
                    raise GrammarError("has a trailer line that ends with a bare LF")
                self._line = block
                return len(data)
        if end > MAX_TRAILER_BYTES:
            raise GrammarError("has endless trailers")
        self.trailers = parse_fields(block[:end], 1)
        self._line = b""
        self._place = _OVER
        return position + end - before
