"""A head that comes again, but for the length of the body behind it, need not be read again.

Who keeps a connection writes the same head each time: a client's library, an engine within the same second. The last
one of a connection is kept, and the next is compared with it around the digits of its Content-Length. Nothing is
recognised that reading would have refused: the rest is equal byte for byte, and the digits are a number above 0 as
everybody writes it.
"""

import re
from typing import Generic, TypeVar

T = TypeVar("T")

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*+(\d++)[ \t]*+\r\n", re.IGNORECASE)
_MAX_DIGITS = 15
_ZERO = ord("0")
#: After so many new heads in a row their sender is taken to write each one anew.
_MAX_MISSES = 4


class LastHead(Generic[T]):
    """The last head of a connection, and what was made of it."""

    __slots__ = ("_before", "_behind", "_made", "_misses")

    def __init__(self) -> None:
        self._made: T | None = None
        self._before = self._behind = b""
        self._misses = 0

    def find(self, data: bytes) -> tuple[T, int | None, int] | None:
        """What was made of the head with which `data` begin, if it is the same one; the length that this one
        announces, None if it announces none; and where it ends."""
        made, before = self._made, self._before
        if made is None or not data.startswith(before):
            return None
        begin, behind = len(before), self._behind
        if not behind:
            return made, None, begin
        end = data.find(behind, begin, begin + _MAX_DIGITS + len(behind))
        if end < 0 or not (digits := data[begin:end]).isdigit() or digits[0] == _ZERO:
            return None
        self._misses = 0
        return made, int(digits), end + len(behind)

    def keep(self, raw: bytes, made: T, *, has_length: bool) -> None:
        """This is the last head now. `has_length`: it announces a length above 0."""
        if self._misses >= _MAX_MISSES:
            self._made = None
            return
        self._misses += 1
        found = _LENGTH.search(raw) if has_length else None
        self._made = made
        self._before = raw[: found.start(1)] if found is not None else raw
        self._behind = raw[found.end(1) :] if found is not None else b""
