"""Heads of HTTP/1.1 messages: bytes in, fields out, or a refusal. Pure.

A head is looked at only when it is whole, so how it was cut into packets cannot matter. What two parsers could
read in two ways is refused, never repaired: bare CR or LF, folded lines, blanks before the colon, control
characters. That is RFC 9112 without its permissions to be lenient; every request-smuggling trick lives in those.

A pattern may not take more than linear time, whatever it is given: all repetitions are possessive.
"""

import re

Header = tuple[bytes, bytes]

_CR = 13
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TEXT = rb"[^\x00-\x08\x0a-\x1f\x7f]"

#: One header line, directly behind the end of another line. The value may keep blanks at its end.
_FIELD = re.compile(rb"(?<=\n)(%b++):[ \t]*+(%b*+)\r\n" % (TOKEN, TEXT))
_REQUEST_LINE = re.compile(rb"([A-Z][A-Z_\-]*+) ([\x21\x22\x24-\x7e\x80-\xff]++) HTTP/(\d)\.(\d)\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: %b*+)?\r\n" % TEXT)


#: In no head at all.
_CONTROLS = bytes(byte for byte in range(32) if byte not in b"\t\r\n") + b"\x7f"


class GrammarError(ValueError):
    """Not HTTP/1.1, or HTTP that can be understood in more than one way. The text ends "the message … "."""


class VersionError(GrammarError):
    """A version of HTTP other than 1.x."""


def parse_request_line(head: bytes) -> tuple[bytes, bytes, int, int]:
    """Read the first line of a head: method, target, minor version (0 or 1), and where the next line begins.

    Raises GrammarError.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise GrammarError("has a malformed request line")
    method, target, major, minor = line.groups()
    if major != b"1":
        raise VersionError(f"is HTTP/{major.decode()}.{minor.decode()}, which is not spoken here")
    return method, target, 0 if minor == b"0" else 1, line.end()


def parse_status_line(head: bytes) -> tuple[int, int, int]:
    """Read the first line of a head: minor version, status, and where the next line begins. Raises GrammarError."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise GrammarError("has a malformed status line")
    minor, status = line.groups()
    return int(minor), int(status), line.end()


def parse_fields(block: bytes, begin: int) -> list[Header]:
    """The header lines of `block` from `begin`, behind a line's end, to the blank line that ends it: trailers.

    Every match begins behind an LF and takes one LF. So if there are as many matches as LFs, the lines are
    covered without a gap, and nothing has been skipped. Raises GrammarError.
    """
    fields = _FIELD.findall(block, begin)
    if len(fields) != block.count(b"\n", begin) - 1 or not block.endswith(b"\n\r\n"):
        raise GrammarError("has a malformed header line")
    if b" \r" in block or b"\t\r" in block:
        return [(name.lower(), value.rstrip(b" \t")) for name, value in fields]
    return [(name.lower(), value) for name, value in fields]


class HeadBuffer:
    """Collects bytes until a head is whole. `limit` bounds what is kept of one that does not end."""

    __slots__ = ("_data", "_limit", "_prefix", "_seen")

    def __init__(self, limit: int, *, prefix: bytes = b"") -> None:
        """`prefix`: with what every head begins."""
        self._limit = limit
        self._prefix = prefix
        self._data = bytearray()
        self._seen = 0

    def __len__(self) -> int:
        """Bytes of an unfinished head."""
        return len(self._data)

    @property
    def in_first_line(self) -> bool:
        """Has not even the first line ended, as far as the limit goes?"""
        return self._data.find(b"\n", 0, self._limit) < 0

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head and what follows it, or None when more is needed.

        Raises GrammarError at once for what cannot become a head any more, so that its sender is not left waiting:
        another prefix, control characters, a line that ends with a bare LF. Raises OverflowError when the head is
        longer than the limit.
        """
        if not self._data:
            end = data.find(b"\r\n\r\n")
            if 0 <= end <= self._limit - 4:
                return data[: end + 4], data[end + 4 :]
        self._data += data
        end = self._data.find(b"\r\n\r\n", max(self._seen - 3, 0))
        if end < 0:
            self._check_unfinished()
            self._seen = len(self._data)
            if self._seen >= self._limit:
                raise OverflowError(self._limit)
            return None
        if end > self._limit - 4:
            raise OverflowError(self._limit)
        whole = bytes(self._data)
        self._data.clear()
        self._seen = 0
        return whole[: end + 4], whole[end + 4 :]

    def _check_unfinished(self) -> None:
        begins = self._data[: len(self._prefix)]
        if begins != self._prefix[: len(begins)]:
            raise GrammarError("does not begin like HTTP/1.1")
        new = self._data[self._seen :]
        if len(new.translate(None, _CONTROLS)) != len(new):
            raise GrammarError("has control characters in its head")
        begin = self._seen
        if begin and self._data[begin - 1] == _CR:
            begin -= 1
        if self._data.count(b"\n", begin) != self._data.count(b"\r\n", begin):
            raise GrammarError("has a line that ends with a bare LF")
