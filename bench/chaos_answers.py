"""What the engines of the chaos answer: a function of the request alone, so that every byte can be checked.

Whoever asks brings a `nonce` that nobody else has. It is in every event of a stream and in every other answer, so that
an answer that went to somebody else, or pieces of two, cannot pass for the right one.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: In an answer with which an engine refuses on purpose: the nonce of the request that it refuses.
MARK = "x-chaos"
MODELS = ("atlas-8b", "birch-70b")
#: Another name of the second one.
ALIAS = "fast"
DONE_EVENT = b"data: [DONE]\n\n"


def wire_model(model: str) -> str:
    """The name that engines know a model by."""
    return MODELS[1] if model == ALIAS else model


def make_body(
    nonce: str,
    model: str,
    prompt: str,
    *,
    tokens: int = 0,
    rate: float = 40.0,
    think_s: float = 0.0,
    answer_bytes: int = 300,
) -> dict[str, Any]:
    """A chat request; it is streamed if it asks for `tokens`. `rate`: tokens a second; `think_s`: silence before the
    first byte."""
    return {
        "model": model,
        "nonce": nonce,
        "stream": bool(tokens),
        "max_tokens": tokens or 16,
        "rate": rate,
        "think_s": think_s,
        "answer_bytes": answer_bytes,
        "messages": [{"role": "user", "content": prompt}],
    }


def digest(*parts: str) -> str:
    """A short one of these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def plain_answer(asked: Mapping[str, Any], model: str) -> bytes:
    """The one right answer of an engine that serves `model`, where it is not streamed."""
    nonce, prompt = str(asked["nonce"]), str(asked["messages"][0]["content"])
    seen = digest(nonce, model, prompt)
    long = seen * (int(asked["answer_bytes"]) // len(seen))
    message = {"role": "assistant", "content": f"{seen} {len(prompt)} {long}"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    answer = {"id": nonce, "object": "chat.completion", "model": model, "choices": choices}
    return json.dumps(answer).encode()


def stream_events(asked: Mapping[str, Any], model: str) -> list[bytes]:
    """The one right sequence of events, the last one included."""
    nonce, prompt = str(asked["nonce"]), str(asked["messages"][0]["content"])
    seen = digest(nonce, model, prompt)
    events = []
    for place in range(int(asked["max_tokens"])):
        delta = {"content": f"{place}:{digest(seen, str(place))} "}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        event = {"id": nonce, "object": "chat.completion.chunk", "model": model, "choices": choices}
        events.append(b"data: " + json.dumps(event).encode() + b"\n\n")
    return [*events, DONE_EVENT]


def refusal(nonce: str) -> bytes:
    """With what an engine refuses, whatever the status."""
    error = {"message": "the engine fails on purpose", "type": "server_error", "code": nonce, "param": None}
    return json.dumps({"error": error}).encode()
