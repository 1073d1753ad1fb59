"""The members of the object that a JSON text is, found without parsing what is in them.

Only the top level is read. What lies deeper, and long strings, are passed over by searching for quotes in C; nothing
but their brackets and quotes is looked at. So for every text that `json.loads` takes the members are those that it
finds, and a text that it refuses is noticed where its top level is wrong, and not everywhere else.

Of a key given twice the last value counts, as in Python's json (SGLang, vLLM, transformers), nlohmann's (llama.cpp) and
Go's (Ollama); serde (text-generation-inference) refuses such a text.
"""

import json
import re
from collections.abc import Mapping

from vastproxy.services.routing.nested import Nested

_SPACE = rb"[ \t\r\n]*+"
#: Escapes are allowed; a key is followed by its colon.
_KEY = re.compile(_SPACE + rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"' + _SPACE + rb":" + _SPACE, re.DOTALL)
_KEY_BEGUN = re.compile(
    _SPACE + rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+(?:\\?|"' + _SPACE + rb":?" + _SPACE + rb"))?\Z", re.S
)
#: A number or a word (true, false, null, and NaN, which Python takes).
_LITERAL = re.compile(rb"[-+.\w]++")
_AFTER = re.compile(_SPACE + rb"([,}])")
_WHITE = re.compile(_SPACE)
_ONLY_SPACE = re.compile(_SPACE + rb"\Z")

_BOM = b"\xef\xbb\xbf"
#: A longer key is none of ours, a longer number nobody's.
_MAX_TOKEN = 4096
_BEGIN, _FIRST, _MEMBER, _VALUE, _INSIDE, _BEHIND, _END, _BROKEN = range(8)


class TopLevel:
    """Reads an object piece by piece, cut anywhere. Holds no more than what it is to find.

    `wanted`: for each key the bytes of its value's text to keep; what is longer is kept as far as that. `at`: begin
    inside the object instead, in front of the key that stands at this place of the text.
    """

    __slots__ = (
        "_held",
        "_keeping",
        "_limit",
        "_nested",
        "_offset",
        "_state",
        "_wanted",
        "began_at",
        "complete",
        "opened_at",
        "spans",
        "values",
    )

    def __init__(self, wanted: Mapping[str, int], *, at: int | None = None) -> None:
        self._wanted = wanted
        self._state = _BEGIN if at is None else _MEMBER
        self.began_at = at
        """Where reading began, if inside the object."""
        self._offset = at or 0
        """Where in the text `_held`, or else the next piece, begins."""
        self._held = b""
        self._nested = Nested()
        self._keeping: str | None = None
        self._limit = 0
        self.values: dict[str, bytes] = {}
        """The text of each value found, as it stands there; its beginning if it is longer than wanted."""
        self.spans: dict[str, tuple[int, int]] = {}
        """From where to where each of these stands in the text; only those that have come whole."""
        self.opened_at: int | None = None
        """Where the object begins."""
        self.complete = False
        """Has the object ended, with nothing but white space behind it?"""

    @property
    def broken(self) -> bool:
        """Is it no JSON object, or too long a riddle? Nothing more will be found."""
        return self._state == _BROKEN

    @property
    def inside(self) -> str | None:
        """The wanted key whose array, object or string has begun and not ended."""
        return self._keeping if self._state == _INSIDE else None

    def feed(self, data: bytes) -> None:
        """Read the next piece."""
        if self._held:
            data = self._held + data
            self._held = b""
        at, end, nested = 0, len(data), self._nested
        while at < end and self._state != _BROKEN:
            if self._state == _INSIDE:
                at = self._pass_over(data, at)
            else:
                before = self._state
                went = self._step(data, at)
                nested.steps_left -= 1
                if nested.steps_left < 0:
                    self._break()
                if went == at and self._state == before:
                    self._hold(data, at)
                    return
                at = went
        self._offset += end

    def _hold(self, data: bytes, at: int) -> None:
        """Half a token: wait for the rest of it."""
        self._offset += at
        self._held = data[at:]
        if len(self._held) > _MAX_TOKEN:
            self._break()

    def _break(self) -> None:
        self._state, self.complete, self._held = _BROKEN, False, b""

    def _step(self, data: bytes, at: int) -> int:
        """Read one token. Where it ends; the same place and state when there is only half of it."""
        state = self._state
        if state in (_MEMBER, _FIRST):
            return self._read_key(data, at)
        if state == _VALUE:
            return self._read_value(data, at)
        if state == _BEHIND:
            return self._read_separator(data, at)
        if state == _BEGIN:
            return self._read_opening(data, at)
        if _ONLY_SPACE.match(data, at) is None:  # something behind the object
            self._break()
        return len(data)

    def _read_opening(self, data: bytes, at: int) -> int:
        if self._offset == at == 0 and data[:1] == _BOM[:1]:
            if len(data) < len(_BOM):
                return at
            at = len(_BOM) if data.startswith(_BOM) else at
        at = _behind_space(data, at)
        if at == len(data):
            return at
        if data[at] != 0x7B:
            self._break()
            return at
        self.opened_at = self._offset + at
        self._state = _FIRST
        return at + 1

    def _read_key(self, data: bytes, at: int) -> int:
        found = _KEY.match(data, at)
        if found is not None:
            name = found[1]
            try:
                key = name.decode() if b"\\" not in name else json.loads(b'"%b"' % name)
            except ValueError:
                key = ""
            self._keeping = key if key in self._wanted else None
            self._state = _VALUE
            return found.end()
        if self._state == _FIRST and (ended := _AFTER.match(data, at)) is not None and ended[1] == b"}":
            self._end()
            return ended.end()
        if _ONLY_SPACE.match(data, at) is not None:
            return len(data)
        if _KEY_BEGUN.match(data, at) is None:
            self._break()
        return at

    def _read_value(self, data: bytes, at: int) -> int:
        at = _behind_space(data, at)
        if at == len(data):
            return at
        first = data[at]
        if first in b'"{[':
            self._state = _INSIDE
            self._nested.begin(is_string=first == 0x22)
            self._begin_value(data, at)
            return at + 1
        found = _LITERAL.match(data, at)
        if found is None:
            self._break()
        elif found.end() < len(data):
            self._begin_value(data, at)
            self._end_value(data, at + 1, found.end())
            return found.end()
        return at

    def _read_separator(self, data: bytes, at: int) -> int:
        found = _AFTER.match(data, at)
        if found is not None:
            if found[1] == b",":
                self._state = _MEMBER
            else:
                self._end()
            return found.end()
        if _ONLY_SPACE.match(data, at) is None:
            self._break()
        return len(data)

    def _end(self) -> None:
        self._state, self.complete = _END, True

    def _begin_value(self, data: bytes, at: int) -> None:
        if (key := self._keeping) is not None:
            self._limit = self._wanted[key]
            self.values[key] = data[at : at + 1]
            self.spans.pop(key, None)
            self.spans[key] = (self._offset + at, -1)

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if (key := self._keeping) is not None:
            have = self.values[key]
            if (room := self._limit - len(have)) > 0:
                self.values[key] = have + data[start : min(end, start + room)]

    def _end_value(self, data: bytes, start: int, end: int) -> None:
        self._keep(data, start, end)
        if (key := self._keeping) is not None:
            self.spans[key] = (self.spans[key][0], self._offset + end)
        self._state = _BEHIND

    def _pass_over(self, data: bytes, at: int) -> int:
        """Go on to the end of a string, array or object, or of the data."""
        begin, nested = at, self._nested
        at = nested.pass_over(data, at)
        if nested.steps_left < 0:
            self._break()
        elif nested.ended:
            self._end_value(data, begin, at)
        else:
            self._keep(data, begin, at)
        return at


def _behind_space(data: bytes, at: int) -> int:
    found = _WHITE.match(data, at)
    return found.end() if found is not None else at
