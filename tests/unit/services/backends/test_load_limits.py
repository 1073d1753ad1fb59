"""The limit that an instance's arguments give to its engine, where exactly one is given."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.builders import make_instance
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.backends.load_limits import configured_capacity


@pytest.mark.parametrize(
    ("kind", "over", "expected"),
    [
        ("vllm", {"extra_env": [["VLLM_ARGS", "--port 18000 --max-num-seqs 64"]]}, 64),
        ("vllm", {"extra_env": [["VLLM_ARGS", "--max-num-seqs=64"]]}, 64),
        ("vllm", {"image_args": ["--model", "m", "--max-num-seqs", "32"]}, 32),
        ("vllm", {"image_args": ["-c", "vllm serve m --max-num-seqs 16"]}, 16),
        ("vllm", {"onstart": "cd /\nvllm serve m \\\n  --max-num-seqs 8 &\n"}, 8),
        ("vllm", {"onstart": "# vllm serve m --max-num-seqs 8\n"}, None),
        ("vllm", {"onstart": "vllm serve a --max-num-seqs 8 &\nvllm serve b --max-num-seqs 16"}, None),
        ("vllm", {"onstart": "vllm serve a --max-num-seqs 8 &\nvllm serve b --max-num-seqs 8"}, 8),
        ("vllm", {"extra_env": [["SGLANG_ARGS", "--max-num-seqs 64"]]}, None),
        ("vllm", {"extra_env": [["VLLM_ARGS", "--max-num-seqs"]]}, None),
        ("vllm", {"extra_env": [["VLLM_ARGS", "--max-num-seqs many --max-num-seqs 0"]]}, None),
        ("vllm", {"extra_env": [["VLLM_ARGS", None]]}, None),
        ("sglang", {"extra_env": [["SGLANG_ARGS", "--max-running-requests 48"]]}, 48),
        ("llamacpp", {"extra_env": [["LLAMA_ARGS", "--port 18000 -np 4"]]}, 4),
        ("llamacpp", {"extra_env": [["LLAMA_ARG_N_PARALLEL", "6"]]}, 6),
        ("tgi", {"extra_env": [["MAX_CONCURRENT_REQUESTS", 200]]}, 200),
        ("ollama", {"extra_env": [["OLLAMA_NUM_PARALLEL", "3"]]}, 3),
        ("ollama", {"onstart": "OLLAMA_NUM_PARALLEL=2 ollama serve"}, 2),
        ("ollama", {"onstart": "export OLLAMA_NUM_PARALLEL='2'; ollama serve"}, 2),
        ("ollama", {}, None),
        ("openai", {"extra_env": [["VLLM_ARGS", "--max-num-seqs 64"]]}, None),
    ],
)
def test_what_the_arguments_say(kind: str, over: dict[str, Any], expected: int | None) -> None:
    instance = make_instance(**{"extra_env": [], **over})
    assert configured_capacity(EngineKind(kind), instance) == expected


@given(
    onstart=st.text(max_size=80),
    args=st.lists(st.text(max_size=20), max_size=4),
    value=st.none() | st.text(max_size=40),
    kind=st.sampled_from(list(EngineKind)),
)
def test_no_arguments_break_it(onstart: str, args: list[str], value: str | None, kind: EngineKind) -> None:
    instance = make_instance(onstart=onstart, image_args=args, extra_env=[["VLLM_ARGS", value]])
    assert (configured_capacity(kind, instance) or 1) >= 1
