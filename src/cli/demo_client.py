"""One streaming chat request, as any client of the proxy would make it, and what became of it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests

#: Limits in seconds for connecting and for each silence. The second is more than the demo's proxy allows an
#: engine, so that the proxy is the one to tell.
TIMEOUTS_S = (5.0, 20.0)


@dataclass(slots=True)
class Answer:
    """One streamed answer. Times in seconds; `whole` is true when it came to its proper end."""

    instance: str = ""
    text: str = ""
    first_token_s: float | None = None
    total_s: float = 0.0
    tokens: int = 0
    whole: bool = False
    error: str = ""


def ask(
    url: str,
    model: str,
    question: str,
    *,
    on_token: Callable[[str], object] = lambda token: None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """One streaming chat request over HTTP. Blocks; failures are in the answer."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": question}]}
    answer, began = Answer(), clock()
    try:
        with requests.post(
            f"{url}/v1/chat/completions", json=body, stream=True, timeout=TIMEOUTS_S
        ) as response:
            answer.instance = response.headers.get("X-VastProxy-Instance", "")
            if response.status_code != requests.codes.ok:
                answer.error = f"HTTP {response.status_code}: {_reason(response.text)}"
                return answer
            for line in response.iter_lines(chunk_size=None):
                if token := _token(line, answer):
                    answer.first_token_s = answer.first_token_s or clock() - began
                    answer.tokens += 1
                    answer.text += token
                    on_token(token)
    except (requests.RequestException, ValueError) as error:
        answer.whole = False
        answer.error = answer.error or f"{type(error).__name__}: the connection broke off"
    answer.total_s = clock() - began
    return answer


def _token(line: bytes, answer: Answer) -> str:
    """The text in one line of the stream; what else it says goes into the answer."""
    if not line.startswith(b"data: "):
        return ""
    data = line[6:]
    if data == b"[DONE]":
        answer.whole = not answer.error
        return ""
    event = json.loads(data)
    if "error" in event:
        answer.error = str(event["error"].get("message", "error"))
        return ""
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
