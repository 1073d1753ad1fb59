"""Where an instance can be reached: mapped ports, and the ports that its engine listens on inside. Pure.

Facts: vast.ai API documentation (`ports`), vast.ai's own images (`PORTAL_CONFIG`, `*_ARGS`), the command
lines of SGLang 0.5, vLLM 0.11, llama.cpp and Ollama, 2026-08.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from types import MappingProxyType

from vastproxy.vastai.environment import split_words
from vastproxy.vastai.parsing import as_port

OLLAMA_PORT = 11434
_ARGUMENT_VARIABLES = ("SGLANG_ARGS", "VLLM_ARGS", "LLAMA_ARGS", "OLLAMA_ARGS", "TGI_ARGS")
#: A command that serves an OpenAI-compatible API. `-p` is not read: to llama.cpp it is the prompt.
_ENGINE = re.compile(
    r"sglang|vllm|llama[-_.]server|llama[-_.]cpp|text-generation-launcher|text-generation-inference|api_server",
    re.I,
)
_SEPARATOR = re.compile(r"\|\||&&|[;\n|&]")
_API_NAME = re.compile(r"\bapi\b|sglang|vllm|ollama|llama[-_. ]?cpp|openai|text.generation", re.I)
_NOT_API_NAME = re.compile(r"web\s?ui|dashboard|jupyter|portal|tensorboard|syncthing", re.I)


def parse_ports(raw: object) -> Mapping[str, int]:
    """Port inside (such as `22/tcp`) -> port of the public address. IPv4 entries are preferred over `::`.

    Entries are objects with HostIp and HostPort (a string or a number), or bare numbers. Never raises.
    """
    found: dict[str, int] = {}
    for inside, entries in raw.items() if isinstance(raw, dict) else ():
        best = _best_entry(entries if isinstance(entries, list) else [entries])
        if best is not None:
            found[str(inside)] = best
    return MappingProxyType(found)


def _best_entry(entries: Iterable[object]) -> int | None:
    fallback: int | None = None
    for entry in entries:
        address = entry.get("HostIp") if isinstance(entry, dict) else ""
        port = as_port(entry.get("HostPort") if isinstance(entry, dict) else entry)
        if port is None:
            continue
        if not (isinstance(address, str) and ":" in address):
            return port
        fallback = port if fallback is None else fallback
    return fallback


def engine_ports(
    *, env: Mapping[str, str | None], image: str, image_args: Sequence[str], onstart: str
) -> tuple[int, ...]:
    """Ports inside the instance on which its engine should listen, the most certain first, each once.

    Read from the engine's arguments in the environment, the container's arguments and the start script,
    then from the entries of PORTAL_CONFIG that look like an API. Empty when nothing is said.
    """
    ports = (
        *_from_variables(env, image),
        *_from_arguments(image, image_args),
        *_from_script(onstart),
        *_from_portal(env.get("PORTAL_CONFIG") or ""),
    )
    return tuple(dict.fromkeys(ports))


def _from_variables(env: Mapping[str, str | None], image: str) -> Iterator[int]:
    for name in _ARGUMENT_VARIABLES:
        yield from _option(split_words(env.get(name) or ""))
    yield from _valid(env.get("LLAMA_ARG_PORT"))
    if (ollama := env.get("OLLAMA_HOST")) is not None:
        yield _ollama_port(ollama)
    if "text-generation-inference" in image:
        yield from _valid(env.get("PORT"))


def _from_arguments(image: str, image_args: Sequence[str]) -> Iterator[int]:
    joined = "\n".join(image_args)
    if any(re.search(r"\s", one) for one in image_args):
        yield from _from_script(joined)  # sh -c "…"
    if _ENGINE.search(image) or _ENGINE.search(joined):
        yield from _option(image_args)


def _from_script(script: str) -> Iterator[int]:
    script = script.replace("\\\n", " ")
    script = re.sub(r"(?m)(^|\s)#.*$", "", script)
    for command in _SEPARATOR.split(script):
        if _ENGINE.search(command):
            yield from _option(split_words(command))
        elif "ollama" in command and (match := re.search(r"OLLAMA_HOST=[\"']?([^\s\"']+)", command)):
            yield _ollama_port(match[1])


def _option(words: Sequence[str]) -> Iterator[int]:
    """The value of the last `--port`: argument parsers let the last one win."""
    last: int | None = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if word == "--port":
            last = as_port(following) or last
        elif word.startswith("--port="):
            last = as_port(word.removeprefix("--port=")) or last
    if last is not None:
        yield last


def _valid(value: object) -> Iterator[int]:
    if (port := as_port(value)) is not None:
        yield port


def _ollama_port(host: str) -> int:
    """The port in OLLAMA_HOST: `[scheme://]host[:port]`, with the scheme's own port or 11434 without one."""
    scheme, separator, rest = host.strip().rpartition("://")
    default = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT) if separator else OLLAMA_PORT
    authority = rest.partition("/")[0]
    _, colon, port = authority.rpartition(":")
    return as_port(port) or default if colon else default


def _from_portal(config: str) -> Iterator[int]:
    # host:external:internal:path:Name, joined by "|"
    for entry in config.split("|"):
        fields = entry.strip().split(":", 4)
        if len(fields) == 5 and _API_NAME.search(fields[4]) and not _NOT_API_NAME.search(fields[4]):
            yield from _valid(fields[2])
