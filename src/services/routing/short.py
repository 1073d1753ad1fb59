"""What a short body says, read by a decoder that keeps only the members that are wanted, each prompt as it is written.

Measured on one core of an AMD EPYC with Python 3.11: 1 µs for a chat of 1 KB where `json.loads` takes 7 µs. What the
decoder does not take – another type than OpenAI's, a number beyond all bounds, bytes that are no UTF-8 – is left to
`asked.of_short_body`, which takes whatever Python does.
"""

from msgspec import Raw

from vastproxy.services.routing.asked import SESSIONS, Asked, of_short_body, session_of
from vastproxy.services.routing.hints import BLOCKS, Hints
from vastproxy.services.routing.policy import NO_HINT
from vastproxy.services.routing.short_body import NOTHING, ShortBody, decode

#: What names the session, the most telling first.
_NAMES = (*SESSIONS, "metadata", "user")
_LONG = frozenset((b'"', b"[", b"{"))


def read_short(body: bytes, hints: Hints) -> Asked:
    """The same as `asked.of_short_body`, sooner."""
    try:
        said = decode(body)
    except (ValueError, RecursionError):
        return of_short_body(body, hints)
    # fmt: off
    is_nameless = (
        said.user is None and said.metadata is None and said.prompt_cache_key is None and said.session_id is None
        and said.conversation is None and said.conversation_id is None and said.chat_id is None
        and said.thread_id is None
    )
    # fmt: on
    session = None if is_nameless else session_of({name: getattr(said, name) for name in _NAMES})
    prompt = _prompt(said) if len(body) >= BLOCKS[0] else b""
    hint = hints.hint(said.model, prompt, session) if prompt or session is not None else NO_HINT
    return Asked(said.model, said.stream, hint, True)


def _prompt(said: ShortBody) -> bytes:
    """What stands in front of the prompt and the prompt itself, each without what closes it."""
    before = said.system if said.system is not NOTHING else said.instructions
    if before is NOTHING and said.messages is not NOTHING:
        return _long(said.messages)  # as nearly always
    prompts = (said.messages, said.prompt, said.input, said.text, said.inputs, said.input_ids)
    first = next((text for raw in prompts if (text := _long(raw))), b"")
    return (_long(said.system) or _long(said.instructions)) + first


def _long(raw: Raw) -> bytes:
    """A text, a list or an object without what closes it; nothing for anything else."""
    text = bytes(raw)
    return text[:-1] if text[:1] in _LONG else b""
