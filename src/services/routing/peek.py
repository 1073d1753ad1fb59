"""What a request asks for: the model, whether the answer is to stream, and what it shares with earlier requests.

A short body is parsed, which nothing beats; of a long one only both ends are read (`toplevel.py`), and a form is passed
over (`form.py`). Measured on one core of an AMD EPYC with Python 3.11, for chats with escaped quotes and line breaks in
them, with the hashes of the prompt, which `json.loads` beside it does not make:

| body              | model first | model last | json.loads | in pieces of 64 KB, to the end |
|-------------------|-------------|------------|------------|--------------------------------|
| 0.9 KB            | 8 µs        | 8 µs       | 4 µs       | 40 µs                          |
| 11 KB             | 24 µs       | 23 µs      | 15 µs      | 68 µs                          |
| 101 KB            | 78 µs       | 63 µs      | 126 µs     | 380 µs                         |
| 1 MB              | 480 µs      | 70 µs      | 1450 µs    | 3500 µs                        |
| 1 MB, an image    |             | 44 µs      | 490 µs     | 32 µs                          |
| 1 MB of token ids |             | 43 µs      | 9700 µs    | 5000 µs                        |

So whoever has the whole body asks `peek`, and `Peek` is for one that still comes.
"""

import re

from vastproxy.services.routing.asked import (
    FORM_WANTED,
    PROMPTS,
    WANTED,
    Asked,
    of_members,
    whole,
)
from vastproxy.services.routing.form import Form, boundary_of
from vastproxy.services.routing.hints import PROMPT_BYTES, Hints
from vastproxy.services.routing.members import Members, Parsed
from vastproxy.services.routing.short import read_short
from vastproxy.services.routing.toplevel import TopLevel

#: A whole body up to here is parsed: for less than that nothing is cheaper.
PARSED_BYTES = 16 * 1024
#: A longer one is not in any case: Python takes 1 to 7 ms for each MB.
_MOST_PARSED_BYTES = 4 << 20
#: As much of the beginning and of the end of a longer one is read first.
_HEAD_BYTES = 4096
_TAIL_BYTES = 4096
#: With many tools behind it the model stands farther from the end, but it is not looked for farther than this.
_MOST_BEHIND_BYTES = 128 * 1024
#: Keys near the end from which the end may be read; more are not tried.
_MAX_TRIED = 8
_TAIL_KEY = re.compile(rb'"(?:model|stream|user|metadata|prompt_cache_key)"[ \t\r\n]*+:')
_MODEL_KEY = b'"model"'


class Peek:
    """Reads a body while it arrives, cut anywhere."""

    __slots__ = ("_hints", "_reader")

    def __init__(self, hints: Hints, content_type: bytes = b"application/json") -> None:
        """`content_type`: of the request. Anything but a form is taken for JSON: many clients do not say."""
        boundary = boundary_of(content_type)
        self._hints = hints
        self._reader: TopLevel | Form = TopLevel(WANTED) if boundary is None else Form(boundary, FORM_WANTED)

    def feed(self, data: bytes) -> bool:
        """Read the next piece. Is the model known, or certain not to become known?

        A key that comes a second time, behind that, counts for `asked` if it is fed as well."""
        reader = self._reader
        reader.feed(data)
        return reader.complete or reader.broken or whole(reader, "model") is not None

    @property
    def asked(self) -> Asked:
        """What has come so far says this."""
        return of_members(self._reader, self._hints)


def peek(
    body: bytes,
    hints: Hints,
    content_type: bytes = b"application/json",
    *,
    parsed_bytes: int = PARSED_BYTES,
    head_bytes: int = _HEAD_BYTES,
    tail_bytes: int = _TAIL_BYTES,
) -> Asked:
    """The same for a whole body.

    One longer than `parsed_bytes` is not parsed if its beginning and its end say all that matters, and is not seen to
    be wrong if it is so in between. There a second "model" is noticed unless it is written with escapes, and `stream`
    or the name of a session are not.
    """
    if len(body) <= parsed_bytes and boundary_of(content_type) is None:
        return read_short(body, hints)
    return of_members(members(body, content_type, head_bytes=head_bytes, tail_bytes=tail_bytes), hints)


def members(
    body: bytes,
    content_type: bytes,
    *,
    complete: bool = True,
    head_bytes: int = _HEAD_BYTES,
    tail_bytes: int = _TAIL_BYTES,
) -> Members:
    """The members of a body, or the fields of a form, with their places. `complete`: is it all of the body?"""
    boundary = boundary_of(content_type)
    if boundary is not None:
        form = Form(boundary, FORM_WANTED)
        form.feed(body)
        return form
    if not complete:
        return _looked_through(body)
    tail_start = len(body) - tail_bytes
    if tail_start >= head_bytes and (ends := _read_ends(body, head_bytes, tail_start)) is not None:
        return ends
    return Parsed(body, WANTED) if len(body) <= _MOST_PARSED_BYTES else _looked_through(body)


def _looked_through(body: bytes) -> TopLevel:
    looked = TopLevel(WANTED)
    looked.feed(body)
    return looked


def _read_ends(body: bytes, head_end: int, tail_start: int) -> Members | None:
    """What the beginning and the end say; None if what lies between may say something else."""
    head = TopLevel(WANTED)
    head.feed(body[:head_end])
    key = head.inside
    if head.broken or key not in PROMPTS:
        return None
    tail = _tail(body, max(tail_start, head_end))
    between = len(body) if tail is None or tail.began_at is None else tail.began_at
    if tail is None or "model" not in tail.spans:
        last = body.rfind(_MODEL_KEY, max(head_end - len(_MODEL_KEY), 0), between)
        if last >= 0:
            tail = _from(body, last)
            if tail is None:
                return None
            between = last
        elif "model" not in head.spans:
            return None
    start = head.spans[key][0]
    head.values[key] = body[start : min(start + PROMPT_BYTES, between)]
    if tail is not None:
        head.values.update(tail.values)
        head.spans.update(tail.spans)
    return head


def _tail(body: bytes, start: int) -> TopLevel | None:
    """The members from one near the end on, if one is recognised."""
    for tried, found in enumerate(_TAIL_KEY.finditer(body, start)):
        if tried == _MAX_TRIED:
            break
        if (tail := _from(body, found.start())) is not None:
            return tail
    return None


def _from(body: bytes, at: int) -> TopLevel | None:
    """The members from the key at `at` on; None if it is none of the object's own.

    A word in quotes that no backslash stands before is no part of a string. As a key that lies deeper it would make the
    object seem to end too early."""
    if body[at - 1] == 0x5C or len(body) - at > _MOST_BEHIND_BYTES:
        return None
    tail = TopLevel(WANTED, at=at)
    tail.feed(body[at:])
    return tail if tail.complete else None
