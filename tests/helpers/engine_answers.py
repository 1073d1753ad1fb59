"""What stand-in engines say: recorded answers (tests/fixtures/engines) and invented completions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent.parent / "fixtures" / "engines"

Answer = tuple[int, str, bytes]


#: The recorded answers by file name. Read once: the loop that serves them must not touch files.
RECORDED: dict[str, Any] = {path.name: json.loads(path.read_text()) for path in FIXTURES.glob("*.json")}


def as_json(value: Any, status: int = 200) -> Answer:
    return status, "application/json", json.dumps(value).encode()


#: What a person's browser gets: no engine (Jupyter, portals, single-page applications).
PAGE = b"<!DOCTYPE html><html><head><title>JupyterLab</title></head><body>Sign in</body></html>"
LOADING = RECORDED["llamacpp_health_loading.json"]

#: `owned_by` in /v1/models, where it is not the name of the kind.
_OWNERS = {"ollama": "library", "openai": "me"}


def model_list(kind: str, models: Sequence[str]) -> Answer:
    cards = [
        {"id": name, "object": "model", "created": 1786296000, "owned_by": name if kind == "tgi" else owner}
        for name in models
        for owner in (_OWNERS.get(kind, kind),)
    ]
    return as_json({"object": "list", "data": cards})


def own_path(kind: str, path: str, models: Sequence[str]) -> Answer:
    """The answer to a path by which engines of this kind are recognised; 404 to any other."""
    first = next(iter(models), "none")
    own: dict[tuple[str, str], Callable[[], Any]] = {
        ("sglang", "/get_model_info"): lambda: {**RECORDED["sglang_model_info.json"], "model_path": first},
        ("vllm", "/version"): lambda: RECORDED["vllm_version.json"],
        ("ollama", "/api/version"): lambda: RECORDED["ollama_version.json"],
        ("ollama", "/api/tags"): lambda: {"models": [{"name": name} for name in models]},
        ("llamacpp", "/props"): lambda: RECORDED["llamacpp_props.json"],
        ("tgi", "/info"): lambda: {**RECORDED["tgi_info.json"], "model_id": first},
    }
    make = own.get((kind, path))
    return as_json(make()) if make else as_json({"detail": "Not Found"}, 404)


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(wanted: dict[str, Any], is_chat: bool, text: str, reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    choice |= {"delta": {"content": text}} if is_chat else {"text": text}
    kind = "chat.completion.chunk" if is_chat else "text_completion"
    return {
        "id": "c-1",
        "object": kind,
        "created": 1786296000,
        "model": wanted.get("model"),
        "choices": [choice],
    }


def asks_usage(wanted: dict[str, Any]) -> bool:
    """Does the request ask for the usage of its stream?"""
    options = wanted.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def usage_chunk(wanted: dict[str, Any], is_chat: bool, count: int) -> dict[str, Any]:
    """The event that tells it, as SGLang, vLLM and llama.cpp write it."""
    told = {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count}
    return {**chunk(wanted, is_chat, "", None), "choices": [], "usage": told}


def completion(wanted: dict[str, Any], is_chat: bool, text: str, reason: str, count: int) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    choice |= {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    return {
        "id": "c-1",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": 1786296000,
        "model": wanted.get("model"),
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count},
    }
