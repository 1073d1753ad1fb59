"""What a request asks for: the model, whether the answer is to stream, and what it shares with earlier requests.

The body is looked at, not parsed (`toplevel.py`, `form.py`). FIGINTRO

FIGURES
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vastproxy.services.routing.form import Form, boundary_of
from vastproxy.services.routing.hints import NO_HINT, PROMPT_BYTES, Hint, Hints
from vastproxy.services.routing.members import Members, Parsed
from vastproxy.services.routing.toplevel import TopLevel

#: A longer name is no model's: paths on disk, which llama.cpp serves under, have 4096 bytes at most.
MODEL_BYTES = 4200
_SESSION_BYTES = 1024
#: Where the prompt stands: /v1/chat/completions and /api/chat, /v1/completions and /api/generate, /v1/responses and
#: /v1/embeddings, SGLang's /generate, text-generation-inference, and token ids for SGLang.
PROMPTS = ("messages", "prompt", "input", "text", "inputs", "input_ids")
#: What the engine puts in front of it: /v1/messages and /api/generate, /v1/responses.
PREAMBLES = ("system", "instructions")
#: What names a conversation, the most telling first; behind them those inside `metadata`, and `user` as the last.
SESSIONS = ("prompt_cache_key", "session_id", "conversation_id", "chat_id", "thread_id")
_LAST_SESSIONS = ("user_id", "user")

WANTED: Mapping[str, int] = {
    "model": MODEL_BYTES,
    "stream": 8,
    "metadata": 4096,
    "user": _SESSION_BYTES,
    **dict.fromkeys(SESSIONS, _SESSION_BYTES),
    **dict.fromkeys(PROMPTS + PREAMBLES, PROMPT_BYTES),
}
_FORM_WANTED: Mapping[str, int] = {"model": MODEL_BYTES, "stream": 8, "user": _SESSION_BYTES}

#: A whole body up to here is parsed.
PARSED_BYTES = 16 * 1024
#: As much of the beginning and of the end of a longer one is read first.
_HEAD_BYTES = 4096
_TAIL_BYTES = 4096
#: Keys near the end from which the end may be read; more are not tried.
_MAX_TRIED = 8
_TAIL_KEY = re.compile(rb'"(?:model|stream|user|metadata|prompt_cache_key)"[ \t\r\n]*+:')
_MODEL_KEY = b'"model"'


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body says, as far as it was read."""

    model: str | None = None
    """The name as the client wrote it; None: it has none, or it cannot be told."""
    stream: bool | None = None
    hint: Hint = NO_HINT
    span: tuple[int, int] | None = None
    """From where to where the model's name stands in the body, with its quotes if it is JSON; also a null."""
    insert_at: int | None = None
    """Where a model could be put in: behind the brace of an object that has none, as far as it was read."""
    is_form: bool = False
    readable: bool = False
    """Was it understood as far as it came? If not, nothing follows from a missing model."""


NOTHING = Asked()


class Peek:
    """Reads a body while it arrives, cut anywhere."""

    __slots__ = ("_hints", "_reader")

    def __init__(self, hints: Hints, content_type: bytes = b"application/json") -> None:
        """`content_type`: of the request. Anything but a form is taken for JSON: many clients do not say."""
        boundary = boundary_of(content_type)
        self._hints = hints
        self._reader: TopLevel | Form = TopLevel(WANTED) if boundary is None else Form(boundary, _FORM_WANTED)

    def feed(self, data: bytes) -> bool:
        """Read the next piece. Is the model known, or certain not to become known?

        A key that comes a second time, behind that, counts for `asked` if it is fed as well."""
        reader = self._reader
        reader.feed(data)
        return reader.complete or reader.broken or _whole(reader, "model") is not None

    @property
    def asked(self) -> Asked:
        """What has come so far says this."""
        return _asked(self._reader, self._hints)


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
    boundary = boundary_of(content_type)
    found: Members
    if boundary is not None:
        found = Form(boundary, _FORM_WANTED)
        found.feed(body)
    else:
        ends = None
        if len(body) > parsed_bytes:
            ends = _read_ends(body, min(head_bytes, len(body)), max(len(body) - tail_bytes, 0))
        found = Parsed(body, WANTED) if ends is None else ends
    return _asked(found, hints)


def _read_ends(body: bytes, head_end: int, tail_start: int) -> Members | None:
    """What the beginning and the end say; None if what lies between may say something else."""
    head = TopLevel(WANTED)
    head.feed(body[:head_end])
    key = head.inside
    if head.broken or key not in PROMPTS:
        return None
    tail = _tail(body, max(tail_start, head_end))
    between = len(body) if tail is None or tail.opened_at is None else tail.opened_at
    if tail is None or "model" not in tail.spans:
        overlap = head_end - len(_MODEL_KEY)
        if "model" not in head.spans or body.find(_MODEL_KEY, max(overlap, 0), between) >= 0:
            return None
    start = head.spans[key][0]
    head.values[key] = body[start : min(start + PROMPT_BYTES, between)]
    if tail is not None:
        head.values.update(tail.values)
        head.spans.update(tail.spans)
    return head


def _tail(body: bytes, start: int) -> TopLevel | None:
    """The members from one near the end on, if one is recognised: everything behind it closes just that object.

    A key in quotes that no backslash stands before is no part of a string, and if it lay deeper the object would
    seem to end too early."""
    for tried, found in enumerate(_TAIL_KEY.finditer(body, start)):
        if tried == _MAX_TRIED:
            break
        at = found.start()
        if body[at - 1] == 0x5C:
            continue
        tail = TopLevel(WANTED, at=at)
        tail.feed(body[at:])
        if tail.complete:
            tail.opened_at = at
            return tail
    return None


def _whole(reader: Members, key: str) -> bytes | None:
    """The text of a value that has come to its end and was not cut short."""
    start, end = reader.spans.get(key, (0, -1))
    value = reader.values.get(key, b"")
    return value if end - start == len(value) and end > start else None


def _asked(reader: Members, hints: Hints) -> Asked:
    if reader.broken:
        return NOTHING
    is_form = isinstance(reader, Form)
    raw = _whole(reader, "model")
    model = None if raw is None else _string(raw, not is_form)
    stream = _whole(reader, "stream")
    opened_at = reader.opened_at if isinstance(reader, TopLevel | Parsed) else None
    return Asked(
        model,
        None if stream is None or stream not in (b"true", b"false") else stream == b"true",
        hints.hint(model, _prompt(reader), _session(reader, not is_form)),
        reader.spans["model"] if model is not None or raw == b"null" else None,
        None if opened_at is None or "model" in reader.values else opened_at + 1,
        is_form,
        True,
    )


def _string(raw: bytes, is_json: bool = True) -> str | None:
    """The string that the text of a value stands for; None for anything else."""
    try:
        if not is_json:
            return raw.decode()
        if raw[:1] != b'"':
            return None
        return raw[1:-1].decode() if b"\\" not in raw else str(json.loads(raw))
    except ValueError:
        return None


def _prompt(reader: Members) -> bytes:
    """The beginning of what the engine will read, as it stands in the body, without what closes it."""
    parts = []
    for keys in (PREAMBLES, PROMPTS):
        for key in keys:
            if (text := reader.values.get(key)) and text[:1] in (b'"', b"[", b"{"):
                start, end = reader.spans[key]
                parts.append(text[:-1] if end - start == len(text) else text)
                break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _session(reader: Members, is_json: bool) -> bytes | None:
    """What names the conversation, as text of a JSON value."""
    values = reader.values
    if _NAMING.isdisjoint(values):
        return None
    for key in SESSIONS:
        if key in values and (named := _named(_whole(reader, key))):
            return named
    metadata = _whole(reader, "metadata")
    if metadata is not None and metadata[:1] == b"{":
        inner = Parsed(metadata, _IN_METADATA)
        for key in _IN_METADATA:
            if key in inner.values and (named := _named(_whole(inner, key))):
                return named
    user = _whole(reader, "user")
    return _named(user) if is_json else user or None


_NAMING = frozenset((*SESSIONS, "metadata", "user"))
_IN_METADATA: Mapping[str, int] = dict.fromkeys(SESSIONS + _LAST_SESSIONS, _SESSION_BYTES)


def _named(raw: bytes | None) -> bytes | None:
    """A string that is not empty, or a number."""
    if raw is None or raw == b'""' or not (raw[:1] == b'"' or raw[:1].isdigit()):
        return None
    return raw
