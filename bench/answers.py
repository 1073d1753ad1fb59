"""What the engines of the bench say. They pass for vLLM 0.11, which every contender knows."""

import json

MODEL = "bench-model"
CHAT = "/v1/chat/completions"

#: A token carries the time it was sent at, in the text of the answer, where every proxy leaves it alone.
STAMP_MARK = b"@"
STAMP_DIGITS = 19
DONE = b"[DONE]"


def chat_answer(size: int = 500) -> bytes:
    """A chat completion of exactly `size` bytes (at least about 330)."""
    answer = {
        "id": "chatcmpl-5f0c1d2e3a4b",
        "object": "chat.completion",
        "created": 1786292799,
        "model": MODEL,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46},
    }
    padding = size - len(json.dumps(answer))
    if padding < 0:
        raise ValueError(f"a chat completion has at least {size - padding} bytes")
    answer["choices"][0]["message"]["content"] = "x" * padding  # type: ignore[index]
    return json.dumps(answer).encode()


def chat_request(*, stream: bool = False, max_tokens: int = 64, prompt_bytes: int = 16) -> bytes:
    """The body of a chat request whose prompt has so many bytes."""
    request: dict[str, object] = {"model": MODEL, "max_tokens": max_tokens}
    if stream:
        request["stream"] = True
    # The prompt comes last, so that an engine finds what it needs at the beginning.
    request["messages"] = [{"role": "user", "content": "x" * prompt_bytes}]
    return json.dumps(request).encode()


def token_parts() -> tuple[bytes, bytes]:
    """An event of a streamed answer, before and after the stamp's digits, as one HTTP chunk."""
    event = {
        "id": "chatcmpl-5f0c1d2e3a4b",
        "object": "chat.completion.chunk",
        "created": 1786292799,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": "MARK"}, "finish_reason": None}],
    }
    before, after = json.dumps(event, separators=(",", ":")).encode().split(b"MARK")
    before, after = b"data: " + before + STAMP_MARK, b" " + after + b"\n\n"
    length = len(before) + STAMP_DIGITS + len(after)
    return b"%x\r\n" % length + before, after + b"\r\n"


#: Everything that is asked of an engine beside the work itself: probes and detection.
STATIC: dict[str, bytes] = {
    "/health": b"",
    "/version": json.dumps({"version": "0.11.0"}).encode(),
    "/v1/models": json.dumps(
        {
            "object": "list",
            "data": [{"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 131072}],
        }
    ).encode(),
}
