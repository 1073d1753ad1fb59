"""What is wanted of a short body, as its decoder is told.

Apart from who reads it, because it must not be compiled: msgspec makes its decoder from the annotations of the class,
and mypy's compiler leaves none.
"""

from typing import Any, Final

from msgspec import Raw, Struct
from msgspec.json import Decoder

NOTHING: Final = Raw(b"")


class ShortBody(Struct, gc=False):
    """The members that are wanted; whatever else there is, is passed over."""

    model: str | None = None
    stream: bool | None = None
    system: Raw = NOTHING
    instructions: Raw = NOTHING
    messages: Raw = NOTHING
    prompt: Raw = NOTHING
    input: Raw = NOTHING
    text: Raw = NOTHING
    inputs: Raw = NOTHING
    input_ids: Raw = NOTHING
    prompt_cache_key: Any = None
    session_id: Any = None
    conversation: Any = None
    conversation_id: Any = None
    chat_id: Any = None
    thread_id: Any = None
    metadata: Any = None
    user: Any = None


decode: Final = Decoder(ShortBody).decode
