"""Header lines that come again and again are read once.

Nearly every line of a head is the same as in the head before: the same client, the same engine. So a line is looked
up as it stands, and what was found out about it the first time – name, value, whether it travels – is used again. A
line that is new is read by the strict pattern, and kept if it is short and no secret.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, get_args

from vastproxy.services.http1.grammar import TEXT, TOKEN, GrammarError, Header
from vastproxy.settings.model import Credential

#: Lines that are kept, and the longest that is worth it: at most 1 MB for each table.
MAX_LINES = 2048
MAX_LINE_BYTES = 256

#: Never kept: a table is no place for them. The last one brings the key of a page's WebSocket.
_SECRET = frozenset(name.encode() for name in get_args(Credential)) | {
    b"authorization",
    b"proxy-authorization",
    b"set-cookie",
    b"sec-websocket-protocol",
}

_LINE = re.compile(rb"(%b++):[ \t]*+(%b*+)" % (TOKEN, TEXT))


class Field(NamedTuple):
    """One header line. `wire`: how it is written to the other side, empty if it does not travel. `is_marked`: is it one
    of those that are read here?"""

    header: Header
    wire: bytes
    is_marked: bool


class FieldTable:
    """Reads header lines of one direction. `never`: names that do not travel; `marked`: names that are read here."""

    __slots__ = ("_known", "_marked", "_never")

    def __init__(self, *, never: frozenset[bytes], marked: frozenset[bytes]) -> None:
        self._never = never
        self._marked = marked
        self._known: dict[bytes, Field] = {}

    def __len__(self) -> int:
        """Lines that are kept."""
        return len(self._known)

    def read(self, head: bytes, begin: int) -> list[Field]:
        """The header lines of a whole head from `begin`, behind its first line, to its blank line.

        Raises GrammarError.
        """
        if begin + 2 == len(head):
            return []
        if not head.endswith(b"\r\n\r\n"):
            raise GrammarError("has a malformed header line")
        known = self._known
        return [known.get(line) or self._learn(line) for line in head[begin:-4].split(b"\r\n")]

    def make(self, header: Header) -> Field:
        """A line that somebody else has read. The name in lower case."""
        name = header[0]
        line = b"" if name in self._never else b"%b: %b\r\n" % header
        return Field(header, line, name in self._marked)

    def _learn(self, line: bytes) -> Field:
        found = _LINE.fullmatch(line)
        if found is None:
            raise GrammarError("has a malformed header line")
        name = found[1].lower()
        field = self.make((name, found[2].rstrip(b" \t")))
        if len(line) <= MAX_LINE_BYTES and name not in _SECRET:
            if len(self._known) >= MAX_LINES:
                self._known.clear()
            self._known[line] = field
        return field


def marked(fields: Iterable[Field]) -> dict[bytes, list[bytes]]:
    """The values of the marked ones, by name."""
    found: dict[bytes, list[bytes]] = {}
    for header, _, is_marked in fields:
        if is_marked:
            name, value = header
            if name in found:
                found[name].append(value)
            else:
                found[name] = [value]
    return found


def wire(fields: Iterable[Field], dropped: frozenset[bytes]) -> bytes:
    """The lines that travel, but for those of the names `dropped`."""
    if dropped:
        return b"".join([field.wire for field in fields if field.header[0] not in dropped])
    return b"".join([field.wire for field in fields])
