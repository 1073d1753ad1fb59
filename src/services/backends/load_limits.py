"""How many requests an engine takes on at a time, as the instance's own arguments say. Pure.

vLLM and Ollama do not tell it over HTTP. Facts: the command lines of vLLM 0.11 (`--max-num-seqs`), SGLang 0.5
(`--max-running-requests`), llama.cpp (`-np`, `--parallel`, LLAMA_ARG_N_PARALLEL), text-generation-inference 3.3
(`--max-concurrent-requests`, MAX_CONCURRENT_REQUESTS) and Ollama 0.12 (OLLAMA_NUM_PARALLEL); vast.ai's own images
(`*_ARGS`), 2026-08.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.vastai.environment import split_words
from vastproxy.vastai.parsing import as_int
from vastproxy.vastai.types import Instance

_MOST = 100_000
_SEPARATOR = re.compile(r"[;&|\n]+")
_COMMENT = re.compile(r"(?m)(^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class _Names:
    """Where one kind of engine takes its limit from: options, the variable of its arguments, a variable of its own."""

    options: tuple[str, ...] = ()
    arguments: str = ""
    variable: str = ""


_NAMES: Mapping[EngineKind, _Names] = {
    EngineKind.VLLM: _Names(("--max-num-seqs",), "VLLM_ARGS"),
    EngineKind.SGLANG: _Names(("--max-running-requests",), "SGLANG_ARGS"),
    EngineKind.LLAMACPP: _Names(("--parallel", "-np"), "LLAMA_ARGS", "LLAMA_ARG_N_PARALLEL"),
    EngineKind.TGI: _Names(("--max-concurrent-requests",), "TGI_ARGS", "MAX_CONCURRENT_REQUESTS"),
    EngineKind.OLLAMA: _Names(variable="OLLAMA_NUM_PARALLEL"),
}


def configured_capacity(kind: EngineKind, instance: Instance) -> int | None:
    """The limit that the instance's arguments give to its engine of this kind.

    None when they do not, or give several: nobody knows then which engine of the instance has which.
    """
    names = _NAMES.get(kind)
    limits = set(_limits(names, instance)) if names is not None else set()
    return limits.pop() if len(limits) == 1 else None


def _limits(names: _Names, instance: Instance) -> Iterator[int]:
    script = _COMMENT.sub("", instance.onstart.replace("\\\n", " "))
    commands = _SEPARATOR.split("\n".join((script, *instance.image_args)))
    arguments = split_words(instance.env.get(names.arguments) or "")
    for words in (arguments, instance.image_args, *map(split_words, commands)):
        yield from _options(words, names.options)
        yield from _assignments(words, names.variable)
    yield from _valid(instance.env.get(names.variable) if names.variable else None)


def _options(words: Sequence[str], options: Sequence[str]) -> Iterator[int]:
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name in options:
            yield from _valid(value if equals else following)


def _assignments(words: Sequence[str], variable: str) -> Iterator[int]:
    for word in words:
        name, equals, value = word.partition("=")
        if variable and equals and name == variable:
            yield from _valid(value)


def _valid(value: object) -> Iterator[int]:
    number = as_int(value)
    if number is not None and 1 <= number <= _MOST:
        yield number
