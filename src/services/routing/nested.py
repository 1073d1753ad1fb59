"""Strings, arrays and objects inside a JSON text, passed over without being read."""

import re
from collections.abc import Mapping

_BRACKET = re.compile(rb"[\[\]{}]")
#: The inside of a string, up to its closing quote or to half an escape.
_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)

#: What stands between two strings nearly always: how many brackets it closes, and what it does to the depth.
_USUAL: Mapping[bytes, tuple[int, int]] = {
    b",": (0, 0),
    b":": (0, 0),
    b", ": (0, 0),
    b": ": (0, 0),
    b"},{": (1, 0),
    b"}, {": (1, 0),
    b":{": (0, 1),
    b": {": (0, 1),
    b":[{": (0, 2),
    b": [{": (0, 2),
    b"},": (1, -1),
    b"}, ": (1, -1),
}
#: So many escaped quotes within so many bytes make a regular expression pass over more of the string: searching for
#: each quote costs 0.2 µs, the expression 3 ns for each byte.
_DENSE = 8
_DENSE_BYTES = 512
_LEAP_BYTES = 4096
#: Strings, escaped quotes and brackets looked at before it is given up: 30 to 60 ms. A chat of 1 MB has 10,000.
MAX_STEPS = 200_000


class Nested:
    """Goes to the end of one value after the other, in texts that come in pieces cut anywhere.

    Only quotes, and brackets outside of strings, are looked at; that they match is not checked."""

    __slots__ = ("_depth", "_in_string", "_odd", "steps_left")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._odd = False
        """Did the last piece end between a backslash and what it escapes?"""
        self.steps_left = MAX_STEPS
        """For all values together; below 0 it is given up."""

    def begin(self, *, is_string: bool) -> None:
        """A value has begun with a quote or with a bracket; what comes is behind that."""
        self._depth = 0 if is_string else 1
        self._in_string = is_string

    @property
    def ended(self) -> bool:
        """Is the value over?"""
        return not self._in_string and self._depth == 0

    def pass_over(self, data: bytes, at: int) -> int:
        """Behind the end of the value; the end of the data if it is not in there."""
        while at < len(data) and self.steps_left >= 0:
            at = self._pass_string(data, at) if self._in_string else self._pass_structure(data, at)
            self.steps_left -= 1
            if not self._in_string and self._depth == 0:
                break
        return at

    def _pass_string(self, data: bytes, at: int) -> int:
        """Behind the closing quote of the string that `at` is in."""
        if self._odd:
            at, self._odd = at + 1, False
        escaped, began = 0, at
        while (quote := data.find(b'"', at)) >= 0:
            if (
                quote == at
                or data[quote - 1] != 0x5C
                or (quote - 2 >= at and data[quote - 2] == 0x5C and not _backslashes(data[at:quote]) & 1)
            ):
                self._in_string = False
                return quote + 1
            at = quote + 1
            escaped += 1
            if escaped == _DENSE:
                self.steps_left -= _DENSE
                if (
                    at - began < _DENSE_BYTES
                    and (found := _TEXT.match(data, at, at + _LEAP_BYTES)) is not None
                ):
                    at = found.end()
                escaped, began = 0, at
        self._odd = bool(_backslashes(data[at:]) & 1)
        return len(data)

    def _pass_structure(self, data: bytes, at: int) -> int:
        """Behind the next opening quote, or behind the bracket that closes the value."""
        quote = data.find(b'"', at)
        end = quote if quote >= 0 else len(data)
        usual = _USUAL.get(data[at:end]) if end - at < 5 else None
        if usual is not None:
            closings, change = usual
        else:
            closings = data.count(b"}", at, end) + data.count(b"]", at, end)
            change = data.count(b"{", at, end) + data.count(b"[", at, end) - closings
        if closings < self._depth:
            self._depth += change
        elif (closed := self._walk(data, at, end)) is not None:
            return closed
        self._in_string = quote >= 0
        return quote + 1 if quote >= 0 else end

    def _walk(self, data: bytes, at: int, end: int) -> int | None:
        for found in _BRACKET.finditer(data, at, end):
            self.steps_left -= 1
            self._depth += 1 if found[0] in (b"{", b"[") else -1
            if self._depth == 0:
                return found.end()
        return None


def _backslashes(data: bytes) -> int:
    """At the end of it."""
    return len(data) - len(data.rstrip(b"\\"))
