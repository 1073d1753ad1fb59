"""What a short body says, read by a decoder that keeps only the members that are wanted, each prompt as it is written.

Measured on one core of an AMD EPYC with Python 3.11: 1 µs for a chat of 1 KB where `json.loads` takes 7 µs. What the
decoder does not take – another type than OpenAI's, a number beyond all bounds, bytes that are no UTF-8 – is left to
`asked.of_short_body`, which takes whatever Python does.
"""

from collections.abc import Iterable
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import Decoder
from msgspec.structs import astuple

from vastproxy.services.routing.asked import Asked, of_short_body, session_of
from vastproxy.services.routing.hints import BLOCKS, Hints
from vastproxy.services.routing.policy import NO_HINT

_NONE = Raw(b"")
_LONG = frozenset((b'"', b"[", b"{"))


class _Body(Struct, gc=False):
    """The members that are wanted; whatever else there is, is passed over. In the order of the slices below."""

    model: str | None = None
    stream: bool | None = None
    system: Raw = _NONE
    instructions: Raw = _NONE
    messages: Raw = _NONE
    prompt: Raw = _NONE
    input: Raw = _NONE
    text: Raw = _NONE
    inputs: Raw = _NONE
    input_ids: Raw = _NONE
    prompt_cache_key: Any = None
    session_id: Any = None
    conversation: Any = None
    conversation_id: Any = None
    chat_id: Any = None
    thread_id: Any = None
    metadata: Any = None
    user: Any = None


_decode = Decoder(_Body).decode
_PREAMBLES, _PROMPTS, _NAMING = slice(2, 4), slice(4, 10), slice(10, None)
_NAMES = _Body.__struct_fields__[_NAMING]
_NAMELESS = (None,) * len(_NAMES)


def read_short(body: bytes, hints: Hints) -> Asked:
    """The same as `asked.of_short_body`, sooner."""
    try:
        values = astuple(_decode(body))
    except (ValueError, RecursionError):
        return of_short_body(body, hints)
    naming = values[_NAMING]
    session = None if naming == _NAMELESS else session_of(_present(naming))
    prompt = b""
    if len(body) >= BLOCKS[0]:
        prompt = _first(values[_PREAMBLES]) + _first(values[_PROMPTS])
    model: str | None = values[0]
    hint = hints.hint(model, prompt, session) if prompt or session is not None else NO_HINT
    return Asked(model, values[1], hint, True)


def _present(values: Iterable[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(_NAMES, values, strict=True) if value is not None}


def _first(texts: Iterable[Raw]) -> bytes:
    """The first of them that is long, without what closes it."""
    for text in texts:
        if text is not _NONE and (raw := bytes(text))[:1] in _LONG:
            return raw[:-1]
    return b""
