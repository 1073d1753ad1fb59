"""What the members of a body say: the model, whether to stream, the session, and how the prompt begins."""

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from vastproxy.services.routing.form import Form
from vastproxy.services.routing.hints import BLOCKS, PROMPT_BYTES, Hints
from vastproxy.services.routing.members import Members
from vastproxy.services.routing.policy import NO_HINT, Hint

#: A longer name is no model's: paths on disk, which llama.cpp serves under, have 4096 bytes at most.
MODEL_BYTES = 4200
_SESSION_CHARS = 256
_SESSION_BYTES = 6 * _SESSION_CHARS + 2  # each may be written as an escape
#: Where the prompt stands: /v1/chat/completions and /api/chat, /v1/completions and /api/generate, /v1/responses and
#: /v1/embeddings, SGLang's /generate, text-generation-inference, and token ids for SGLang.
PROMPTS = ("messages", "prompt", "input", "text", "inputs", "input_ids")
#: What the engine puts in front of it: /v1/messages and /api/generate, /v1/responses.
PREAMBLES = ("system", "instructions")
#: What names a conversation, the most telling first; behind them those inside `metadata`, and `user` as the last.
SESSIONS = ("prompt_cache_key", "session_id", "conversation", "conversation_id", "chat_id", "thread_id")
_LAST_SESSIONS = ("user_id", "user")

WANTED: Mapping[str, int] = {
    "model": MODEL_BYTES,
    "stream": 8,
    "metadata": 4096,
    "user": _SESSION_BYTES,
    **dict.fromkeys(SESSIONS, _SESSION_BYTES),
    **dict.fromkeys(PROMPTS + PREAMBLES, PROMPT_BYTES),
}
FORM_WANTED: Mapping[str, int] = {"model": MODEL_BYTES, "stream": 8, "user": _SESSION_BYTES}


class Asked(Struct, frozen=True, gc=False):
    """What a body says, as far as it was read."""

    model: str | None = None
    """The name as the client wrote it; None: it has none, or it cannot be told."""
    stream: bool | None = None
    hint: Hint = NO_HINT
    readable: bool = False
    """Was it understood as far as it came? If not, nothing follows from a missing model."""


NOTHING = Asked()


def whole(reader: Members, key: str) -> bytes | None:
    """The text of a value that has come to its end and was not cut short."""
    start, end = reader.spans.get(key, (0, -1))
    value = reader.values.get(key, b"")
    return value if end - start == len(value) and end > start else None


def of_members(reader: Members, hints: Hints) -> Asked:
    """What these members say, as far as they have come."""
    if reader.broken:
        return NOTHING
    is_json = not isinstance(reader, Form)
    raw = whole(reader, "model")
    model = None if raw is None else _string(raw, is_json)
    stream = _STREAM.get(whole(reader, "stream") or b"")
    parts = []
    for keys in (PREAMBLES, PROMPTS):
        for key in keys:
            if (text := reader.values.get(key)) and text[:1] in _LONG:
                start, end = reader.spans[key]
                parts.append(text[:-1] if end - start == len(text) else text)
                break
    named: dict[str, Any] = {}
    for key in _NAMING.intersection(reader.values):
        if (text := whole(reader, key)) is not None:
            named[key] = _string(text, is_json) if text[:1] == b'"' or not is_json else _scalar(text)
    return Asked(model, stream, hints.hint(model, b"".join(parts), session_of(named)), True)


_STREAM: Mapping[bytes, bool] = {b"true": True, b"false": False}
_LONG = (b'"', b"[", b"{")


def _string(raw: bytes, is_json: bool = True) -> str | None:
    """The string that the text of a value stands for; None for anything else."""
    try:
        if not is_json:
            return raw.decode()
        if raw[:1] != b'"':
            return None
        return raw[1:-1].decode("utf-8", "surrogatepass") if b"\\" not in raw else str(json.loads(raw))
    except ValueError:
        return None


def _scalar(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def of_short_body(body: bytes, hints: Hints) -> Asked:
    """What a short body says. Where the prompt stands is looked for by its key. If the same word stands deeper in front
    of it, or the next key's behind it, the hashes are those of other bytes, in each turn the same."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return NOTHING
    if type(said) is not dict:
        return NOTHING
    model, stream = said.get("model"), said.get("stream")
    model = model if isinstance(model, str) else None
    prompt = b""
    if len(body) >= BLOCKS[0]:
        for keys in (PREAMBLES, PROMPTS):
            for key in keys:
                if isinstance(said.get(key), str | list | dict):
                    prompt += _text_of(body, key, said)
                    break
    session = None if _NAMING.isdisjoint(said) else session_of(said)
    return Asked(
        model, stream if isinstance(stream, bool) else None, hints.hint(model, prompt, session), True
    )


def _text_of(body: bytes, key: str, said: Mapping[str, Any]) -> bytes:
    """The text of a member, without what closes it: from its key to the one behind it."""
    found = _PROMPT_KEYS[key].search(body)
    if found is None:
        return b""
    start, end = found.end(), -1
    keys = iter(said)
    for each in keys:
        if each == key and (behind := next(keys, None)) is not None:
            end = body.rfind(b'"%b"' % behind.encode("utf-8", "replace"), start)
    return body[start : end if end >= 0 else body.rfind(b"}")].rstrip(b" \t\r\n,")[:-1]


_PROMPT_KEYS = {
    key: re.compile(rb'"%b"[ \t\r\n]*+:[ \t\r\n]*+' % key.encode()) for key in PREAMBLES + PROMPTS
}


def session_of(said: Mapping[str, Any]) -> str | None:
    """What names the conversation, of these members."""
    for key in SESSIONS:
        if key in said and (named := _named(said[key])):
            return named
    metadata = said.get("metadata")
    if isinstance(metadata, dict):
        for key in (*SESSIONS, *_LAST_SESSIONS):
            if key in metadata and (named := _named(metadata[key])):
                return named
    return _named(said.get("user"))


_NAMING = frozenset((*SESSIONS, "metadata", "user"))


def _named(value: Any) -> str | None:
    """A name that is a string, not empty nor endless, or a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= _SESSION_CHARS else None
