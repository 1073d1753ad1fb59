"""How many tokens an engine says that an answer took, read from the end of the answer. Pure.

Engines tell it last: OpenAI's `usage` closes the body, or comes in the event before `[DONE]` where the client asked for
it (`stream_options.include_usage`); Ollama's counts are in its last line; SGLang's own API has them in `meta_info`.
Only the last pieces are looked at, and nothing is parsed: a quotation mark inside a JSON string has a backslash before
it, so what a model writes cannot pass for a count. 1 to 2 µs for 2 KB (bench/metrics.py).
"""

import re
from typing import Final

#: Of the end of an answer, so much is looked at: llama.cpp follows its usage with timings, vLLM with empty fields.
TAIL_BYTES: Final = 4096
#: More tokens than any context has are no count of tokens.
_MOST: Final = 100_000_000

#: OpenAI's and SGLang's names; then those of OpenAI's Responses and Anthropic's Messages; then Ollama's.
_IN: Final = (b'"prompt_tokens"', b'"input_tokens"', b'"prompt_eval_count"')
_OUT: Final = (b'"completion_tokens"', b'"output_tokens"', b'"eval_count"')
_COUNT: Final = re.compile(rb"\s*:\s*(\d{1,9})(?!\d)")


def usage_of(last: bytes, before: bytes = b"") -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the answer, None where nothing is told. `last` and `before`: the last two pieces of
    the answer's body; a stream's count often comes in the one before its end."""
    missing = TAIL_BYTES - len(last)
    tail = before[-missing:] + last if missing > 0 else last[-TAIL_BYTES:]
    if b'_tokens"' not in tail and b'eval_count"' not in tail:
        return None, None  # as most ends of streams, and all that is no generation
    return _last(_IN, tail), _last(_OUT, tail)


def _last(names: tuple[bytes, ...], tail: bytes) -> int | None:
    """The last count by one of these names: with `continuous_usage_stats` vLLM tells one in each event."""
    for name in names:
        end = len(tail)
        while (at := tail.rfind(name, 0, end)) >= 0:
            if not tail.endswith(b"\\", 0, at) and (found := _COUNT.match(tail, at + len(name))) is not None:
                count = int(found[1])
                return count if count <= _MOST else None
            end = at
    return None
