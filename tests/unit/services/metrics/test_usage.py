"""Tokens are read from the end of an answer, in every engine's words, and from nothing that a model wrote."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.metrics.usage import TAIL_BYTES, usage_of

USAGE = (
    b'"usage":{"prompt_tokens":31,"total_tokens":331,"completion_tokens":300,"prompt_tokens_details":null}'
)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b'{"id":"x","choices":[{"text":"hi"}],' + USAGE + b"}", (31, 300)),
        (b'data: {"choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n", (31, 300)),
        (b'data: {"choices":[]}\n\ndata: [DONE]\n\n', (None, None)),
        (b'"usage": { "prompt_tokens" : 5 , "completion_tokens" :\n 7 }', (5, 7)),
        (b'{"model":"m","embedding":[0.1],"usage":{"prompt_tokens":8,"total_tokens":8}}', (8, None)),
        (b'"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}', (36, 87)),
        (b'{"done":true,"prompt_eval_count":26,"eval_count":290,"eval_duration":4709213000}\n', (26, 290)),
        (b'"meta_info":{"prompt_tokens":4,"completion_tokens":16,"cached_tokens":0}', (4, 16)),
        (
            b'{"choices":[],"usage":{"completion_tokens":1,"prompt_tokens":2},"timings":{"predicted_n":1}}',
            (2, 1),
        ),
        (b'"completion_tokens":1}}\n\ndata: {"usage":{"completion_tokens":2,"prompt_tokens":9}}', (9, 2)),
        (b'"prompt_tokens":null,"completion_tokens":"many"', (None, None)),
        (b'"prompt_tokens":-1,"completion_tokens":9999999999', (None, None)),
        (b'"prompt_tokens":999999999,"completion_tokens":1', (None, 1)),
        (b'"prompt_tokens"', (None, None)),
        (b"", (None, None)),
        (USAGE + b" " * TAIL_BYTES, (None, None)),
        (b"x" * 100_000 + USAGE, (31, 300)),
        (USAGE.removeprefix(b'"usage":{'), (31, 300)),
    ],
)
def test_the_counts_of_engines(tail: bytes, expected: tuple[int | None, int | None]) -> None:
    assert usage_of(tail) == expected


@pytest.mark.parametrize("split", [0, 1, 30, len(USAGE) - 1, len(USAGE)])
def test_a_count_may_be_in_the_piece_before_the_last_or_in_both(split: int) -> None:
    before, last = b"x" * 9_000 + USAGE[:split], USAGE[split:] + b"}\n\ndata: [DONE]\n\n"
    assert usage_of(last, before) == (31, 300)


@given(st.text(max_size=200))
def test_what_a_model_writes_is_no_count(text: str) -> None:
    content = json.dumps({"choices": [{"text": text + ' "completion_tokens": 5, "prompt_tokens":6 ' + text}]})
    assert usage_of(content.encode()) == (None, None)


def test_a_count_before_what_a_model_writes_is_found() -> None:
    written = json.dumps('"completion_tokens": 5').encode()
    assert usage_of(b'{"usage":{"completion_tokens":3},"text":' + written + b"}") == (None, 3)


@given(st.binary(max_size=300))
def test_any_bytes_are_looked_at_in_peace(tail: bytes) -> None:
    tokens_in, tokens_out = usage_of(tail + b'"prompt_tokens":' + tail)
    for count in (tokens_in, tokens_out):
        assert count is None or 0 <= count <= 100_000_000
