"""What a simulated model says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.simulator.replies import make_reply, prompt_of


def reply(body: dict[str, Any], prompt: str = "hi") -> Any:
    return make_reply(body, prompt, speaker="I am a test.", seed="1")


def test_the_same_question_gets_the_same_answer() -> None:
    assert reply({}) == reply({})
    assert reply({}) != reply({}, "something else")
    assert "".join(reply({}).tokens).startswith("I am a test. You asked: “hi”.")


@given(limit=st.integers(1, 300))
def test_max_tokens_is_kept(limit: int) -> None:
    natural = reply({})
    cut = reply({"max_tokens": limit})
    assert len(cut.tokens) == min(limit, len(natural.tokens))
    assert cut.finish_reason == ("length" if limit < len(natural.tokens) else "stop")


@given(limit=st.integers(1, 300))
def test_ignore_eos_makes_exactly_that_many(limit: int) -> None:
    forced = reply({"max_completion_tokens": limit, "ignore_eos": True})
    assert len(forced.tokens) == limit
    assert forced.finish_reason == "length"


def test_min_tokens_lengthens() -> None:
    assert len(reply({"max_tokens": 500, "min_tokens": 200}).tokens) >= 200


def test_long_questions_are_shortened_and_counted() -> None:
    long = reply({}, "word " * 100)
    assert "…" in "".join(long.tokens)
    assert long.prompt_tokens == 125


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "b"),
        ({"messages": [{"content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}]}, "x y"),
        ({"messages": ["oops"]}, None),
        ({"messages": []}, None),
        ({"messages": [{"content": None}]}, None),
        ({"prompt": "p"}, "p"),
        ({"prompt": ["p", "q"]}, "p"),
        ({"prompt": [1, 2]}, None),
        ({}, None),
    ],
)
def test_finding_the_question(body: dict[str, Any], prompt: str | None) -> None:
    assert prompt_of(body) == prompt
