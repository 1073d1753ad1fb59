"""The members of the object that a whole JSON text is, and where they stand in it: parsed in C, value by value.

For a text of some KB that is cheaper than looking for its top level (`toplevel.py`), and a text that `json.loads`
refuses is refused here.
"""

import json
import re
from collections.abc import Mapping
from typing import Protocol

_SPACE = re.compile(r"[ \t\n\r]*+")
#: A short member as most are, with what separates it from the next one.
_USUAL = re.compile(
    r'"([^"\\\x00-\x1f]{0,64}+)"[ \t\n\r]*+:[ \t\n\r]*+'
    r'("[^"\\\x00-\x1f]{0,256}+"|true|false|null|-?(?:0|[1-9][0-9]{0,15}+)(?:\.[0-9]{1,17}+)?+)'
    r"[ \t\n\r]*+([,}])[ \t\n\r]*+"
)
_raw_decode = json.JSONDecoder().raw_decode
#: A request has a dozen. So many take 20 ms, in which nobody else is served.
MAX_MEMBERS = 20_000


class Members(Protocol):
    """What is known of an object, or of a form."""

    @property
    def values(self) -> dict[str, bytes]:
        """The text of each value found, as it stands there; its beginning if it is longer than wanted."""

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """From where to where each of these stands in the text; the end is -1 if it has not come."""

    @property
    def broken(self) -> bool:
        """Is it something else? Then nothing that was found counts."""


class Parsed:
    """The members of a whole text. `wanted`: for each key the bytes of its value's text to keep."""

    __slots__ = ("_wanted", "broken", "opened_at", "spans", "values")

    def __init__(self, body: bytes, wanted: Mapping[str, int]) -> None:
        self._wanted = wanted
        self.values: dict[str, bytes] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.broken = False
        self.opened_at: int | None = None
        try:
            # UTF-16 and UTF-32, which Python takes too, nobody sends and no engine but Python's reads.
            self._read(body, body.decode("utf-8", "surrogatepass"))
        except (ValueError, IndexError, RecursionError):
            self.broken = True

    def _read(self, body: bytes, text: str) -> None:
        at = _behind_space(text, 1 if text.startswith("\ufeff") else 0)
        if text[at] != "{":
            raise ValueError("no object")
        self.opened_at = at + (2 if at and text[0] == "\ufeff" else 0)
        spots: dict[str, tuple[int, int]] = {}
        at = _behind_space(text, at + 1)
        ended = "," if text[at] != "}" else ""
        behind = at if ended else _behind_space(text, at + 1)
        left = MAX_MEMBERS
        while ended == ",":
            at = behind
            left -= 1
            if left < 0:
                raise ValueError("no request has so many members")
            found = _USUAL.match(text, at)
            if found is not None:
                key, start, at, ended = found[1], found.start(2), found.end(2), found[3]
                behind = found.end()
            else:
                key, start, at = _member(text, at)
                behind = _behind_space(text, at)
                ended = text[behind]
                behind = _behind_space(text, behind + 1)
            if key in self._wanted:
                spots[key] = (start, at)
        if ended not in ("}", "") or behind != len(text):
            raise ValueError("no end")
        self._note(body, text, spots)

    def _note(self, body: bytes, text: str, spots: Mapping[str, tuple[int, int]]) -> None:
        """From places in the text to places in its bytes."""
        if len(body) == len(text):
            self.spans = dict(spots)
        else:
            before, passed = 0, 0
            for key, (start, end) in sorted(spots.items(), key=lambda spot: spot[1]):
                begin = passed + _size(text[before:start])
                before, passed = end, begin + _size(text[start:end])
                self.spans[key] = (begin, passed)
        for key, (start, end) in self.spans.items():
            self.values[key] = body[start : min(end, start + self._wanted[key])]


def _member(text: str, at: int) -> tuple[str, int, int]:
    """A key, and where its value begins and ends."""
    if text[at] != '"':
        raise ValueError("no key")
    key, at = _raw_decode(text, at)
    at = _behind_space(text, at)
    if text[at] != ":":
        raise ValueError("no colon")
    start = _behind_space(text, at + 1)
    return key, start, _raw_decode(text, start)[1]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at
