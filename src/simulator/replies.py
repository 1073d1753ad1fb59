"""What a simulated model says: the same question gets the same answer from the same instance. Pure."""

import random
import re
from dataclasses import dataclass
from typing import Any

#: What a completion is filled with; some of it is not ASCII, so that UTF-8 gets cut up on the way.
_TEXT = (
    "a tunnel carries every token the way a river carries boats… one after the other and never out of order "
    "while engines hum in far façades and a small proxy keeps count of who is busy and who has gone. "
    "it waits for nobody, forgets nothing, and when a machine falls silent the next one says naïvely: "
    "go on, I am here. the answer does not mind where it was made, only that it arrives whole and soon."
)
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Reply:
    """The tokens to send, why they end, and how many tokens the question had."""

    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int


def make_reply(body: dict[str, Any], prompt: str, *, speaker: str, seed: str) -> Reply:
    """Answer `prompt`. Of the body count: max_tokens (max_completion_tokens), min_tokens and ignore_eos."""
    rng = random.Random(f"{seed}|{prompt}")
    question = " ".join(prompt.split())
    shown = question if len(question) <= 80 else question[:79] + "…"
    natural = _tokenize(f"{speaker} You asked: “{shown}”. ") + _ramble(rng, rng.randint(24, 48))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    wanted = int(limit) if limit else len(natural)
    floor = wanted if body.get("ignore_eos") else min(wanted, int(body.get("min_tokens") or 0))
    if len(natural) < floor:
        natural += _ramble(rng, floor - len(natural))
    tokens = natural[:wanted]
    finish = "length" if limit and len(tokens) >= wanted and (len(natural) > wanted or floor) else "stop"
    return Reply(tuple(tokens), finish, count_tokens(prompt))


def count_tokens(text: str) -> int:
    """About how many tokens a text has: four characters each, at least one."""
    return max(1, len(text) // 4)


def _tokenize(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text.rstrip())


def _ramble(rng: random.Random, count: int) -> list[str]:
    start = rng.randrange(len(_WORDS))
    return [" " + _WORDS[(start + i) % len(_WORDS)] for i in range(count)]


def prompt_of(body: dict[str, Any]) -> str | None:
    """The question of a chat or completion body as text; None when there is none."""
    if isinstance(messages := body.get("messages"), list) and messages:
        return _content(messages[-1].get("content") if isinstance(messages[-1], dict) else None)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _content(content: Any) -> str | None:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else None
