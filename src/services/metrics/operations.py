"""What a request asks for, in OpenTelemetry's words, told by its path alone. Pure."""

from typing import Final

#: OpenTelemetry's `gen_ai.operation.name` where it has one (semantic conventions for generative AI, read 2026-11).
_CHAT: Final = "chat"
_TEXT: Final = "text_completion"
_EMBEDDINGS: Final = "embeddings"
OTHER: Final = "other"

#: Paths of OpenAI's API, and those that engines have beside it (Ollama, llama.cpp, SGLang, TGI).
_BY_PATH: Final = {
    b"/v1/chat/completions": _CHAT,
    b"/v1/responses": _CHAT,
    b"/v1/messages": _CHAT,
    b"/api/chat": _CHAT,
    b"/v1/completions": _TEXT,
    b"/completion": _TEXT,
    b"/completions": _TEXT,
    b"/generate": _TEXT,
    b"/generate_stream": _TEXT,
    b"/api/generate": _TEXT,
    b"/v1/embeddings": _EMBEDDINGS,
    b"/embedding": _EMBEDDINGS,
    b"/embeddings": _EMBEDDINGS,
    b"/embed": _EMBEDDINGS,
    b"/api/embed": _EMBEDDINGS,
    b"/api/embeddings": _EMBEDDINGS,
}


def operation_of(path: bytes) -> str:
    """`chat`, `text_completion`, `embeddings`, or `other`. `path` without its query."""
    return _BY_PATH.get(path, OTHER)


#: How answers are sent that are made while they are sent: Server-Sent Events, and Ollama's lines of JSON.
_EVENTS: Final = b"text/event-stream"
_LINES: Final = b"application/x-ndjson"


def is_stream(lines: bytes) -> bool:
    """Is the answer with these header lines sent while it is made? Engines write these types in lower case."""
    return _EVENTS in lines or _LINES in lines
