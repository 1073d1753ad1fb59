"""The text fields of a form (multipart/form-data), found in passing over the files in it.

Audio is sent so: /v1/audio/transcriptions has the model in a field beside the file, before it (httpx and the official
clients) or after it (curl, in the order that was typed). RFC 7578 and RFC 2046 §5.1.
"""

import re
from collections.abc import Mapping

_NAME = re.compile(
    rb'^content-disposition[ \t]*:[ \t]*form-data(?:[ \t]*;[^\r\n]*?)?;[ \t]*name="?([^"\r\n;]*)"?[ \t]*(?:;|$)',
    re.IGNORECASE | re.MULTILINE,
)
_FILE = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)
_BOUNDARY = re.compile(rb';[ \t]*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
#: Headers of one part; clients send two or three.
_MAX_HEAD = 8192

#: A form has a dozen parts. So many take 20 ms, in which nobody else is served.
MAX_PARTS = 5_000

_DELIMITER, _LINE, _HEAD, _BODY, _OVER, _BROKEN = range(6)


def boundary_of(content_type: bytes) -> bytes | None:
    """What separates the parts of a form; None if the header says that it is something else."""
    if not content_type[:20].lower().startswith(b"multipart/form-data"):
        return None
    found = _BOUNDARY.search(content_type)
    return None if found is None else found[1] or found[2]


class Form:
    """Reads a form piece by piece, cut anywhere. Of a field given twice the last one counts, as in Starlette (vLLM,
    SGLang)."""

    __slots__ = (
        "_delimiter",
        "_field",
        "_held",
        "_offset",
        "_parts_left",
        "_state",
        "_wanted",
        "complete",
        "spans",
        "values",
    )

    def __init__(self, boundary: bytes, wanted: Mapping[str, int]) -> None:
        """`wanted`: for each field how many bytes of it to keep."""
        self._wanted = wanted
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first delimiter has no line before it
        self._offset = -2
        self._state = _DELIMITER
        self._field: str | None = None
        self._parts_left = MAX_PARTS
        self.values: dict[str, bytes] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        """From where to where each of these stands in the body; only those that have come whole."""
        self.complete = False

    @property
    def broken(self) -> bool:
        """Is it no form? Nothing more will be found."""
        return self._state == _BROKEN

    def feed(self, data: bytes) -> None:
        """Read the next piece."""
        if self._state >= _OVER:
            return
        data, at = self._held + data, 0
        while True:
            went = self._step(data, at)
            if went is None:
                break
            at = went
        self._offset += at
        self._held = data[at:] if self._state < _OVER else b""

    def _step(self, data: bytes, at: int) -> int | None:
        """Behind what could be read; None: more is needed, from `at` on."""
        if self._state in (_DELIMITER, _BODY):
            return self._pass_body(data, at)
        if self._state == _LINE:
            return self._end_line(data, at)
        if self._state == _HEAD:
            return self._read_head(data, at)
        return None

    def _pass_body(self, data: bytes, at: int) -> int | None:
        found = data.find(self._delimiter, at)
        if found >= 0:
            self._keep(data, at, found)
            if (key := self._field) is not None:
                self.spans[key] = (self.spans[key][0], self._offset + found)
            self._field, self._state = None, _LINE
            return found + len(self._delimiter)
        sure = len(data) - len(self._delimiter) + 1
        if sure <= at:
            return None
        self._keep(data, at, sure)
        return sure

    def _keep(self, data: bytes, start: int, end: int) -> None:
        if (key := self._field) is not None:
            room = self._wanted[key] - len(self.values[key])
            self.values[key] += data[start : min(end, start + max(room, 0))]

    def _end_line(self, data: bytes, at: int) -> int | None:
        if data.startswith(b"--", at):
            self._state, self.complete = _OVER, True
            return at
        end = data.find(b"\r\n", at)
        if end < 0:
            self._state = _BROKEN if len(data) - at > _MAX_HEAD else _LINE
            return None
        if data[at:end].strip(b" \t"):  # a longer boundary begins like ours, or something else is wrong
            self._state = _BROKEN
            return None
        self._state = _HEAD
        return end

    def _read_head(self, data: bytes, at: int) -> int | None:
        """`at` is at the end of the line before it, so that a part without headers is one too."""
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            self._state = _BROKEN if len(data) - at > _MAX_HEAD else _HEAD
            return None
        self._parts_left -= 1
        if self._parts_left < 0:
            self._state = _BROKEN
            return None
        head = data[at:end].replace(b"\r\n", b"\n")
        named = _NAME.search(head)
        name = named[1].decode("utf-8", "replace") if named is not None and not _FILE.search(head) else None
        self._field = name if name in self._wanted else None
        self._state = _BODY
        begin = end + 4
        if self._field is not None:
            self.values[self._field] = b""
            self.spans[self._field] = (self._offset + begin, -1)
        # An empty part is followed by the delimiter at once, whose line break is the head's own.
        return begin
