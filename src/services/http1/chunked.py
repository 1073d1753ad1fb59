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


class _Place(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    OVER = auto()


class ChunkedReader:
    """Reads one chunked body. `rest` is what came behind its end."""

    __slots__ = ("_left", "_line", "_place", "rest", "trailers")

    def __init__(self) -> None:
        self._place = _Place.SIZE
        self._left = 0
        self._line = b""
        self.trailers: list[Header] = []
        self.rest = b""

    @property
    def done(self) -> bool:
        """Has the body ended?"""
        return self._place is _Place.OVER

    def feed(self, data: bytes) -> bytes:
        """Bytes have arrived; what of the body they carry. Raises GrammarError. Not after `done`."""
        if self._place is _Place.SIZE and not self._line:
            # One whole chunk, nothing else: that is how every token of a stream arrives.
            end = data.find(b"\r\n", 0, 10)
            if end > 0 and _SIZE.fullmatch(data, 0, end) is not None:
                size = int(data[:end], 16)
                if size and len(data) == end + size + 4 and data.endswith(b"\r\n"):
                    return data[end + 2 : -2]
        return b"".join(self._pieces(data))

    def _pieces(self, data: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and self._place is not _Place.OVER:
            if self._place is _Place.DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._place = _Place.DATA_END
            elif self._place is _Place.TRAILERS:
                position = self._read_trailers(data, position)
            else:
                position = self._read_line(data, position)
        if self._place is _Place.OVER:
            self.rest = data[position:]
        return pieces

    def _read_line(self, data: bytes, position: int) -> int:
        """Take a size line, or the end of a chunk's data; a part of it is kept until the rest comes."""
        limit = 2 if self._place is _Place.DATA_END else MAX_SIZE_LINE_BYTES
        end = data.find(b"\n", position)
        line = self._line + (data[position : end + 1] if end >= 0 else data[position:])
        if len(line) > limit or not (b"\r\n".startswith(line) or self._place is _Place.SIZE):
            raise GrammarError("has a chunk that does not end where its size says or a size line without end")
        if end < 0:
            self._line = line
            return len(data)
        self._line = b""
        if self._place is _Place.DATA_END:
            self._place = _Place.SIZE
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
            self._place = _Place.DATA
        else:
            self._place = _Place.TRAILERS
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
        self._place = _Place.OVER
        return position + end - before
