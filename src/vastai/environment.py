"""The environment of an instance as vast.ai tells it, in any of the six forms of `extra_env`.

Facts: vast.ai API documentation (the list and the by-id schema differ) and its command line, 2026-08.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vastproxy.vastai.parsing import as_text

#: `-p 8000:8000` is written as a variable named so with the value "1"; so are -h and -v.
_FLAG = re.compile(r"^-{1,2}[A-Za-z]")
_PORT_FLAG = re.compile(r"^(?:-p|--publish)(?:\s|=|$)")


def parse_env(raw: object) -> tuple[Mapping[str, str | None], tuple[str, ...]]:
    """The variables, and the values of the `-p` pseudo-variables (such as `8000:8000` or `8265:8265/udp`).

    Accepts a list of pairs, a list of `K=V`, an object, a string of docker flags, an empty list and null.
    Other docker flags among the variables are left out. Never raises.
    """
    variables: dict[str, str | None] = {}
    port_flags: list[str] = []
    for name, value in _pairs(raw):
        if _PORT_FLAG.match(name):
            port_flags += name.replace("=", " ", 1).split()[1:2]
        elif name and not _FLAG.match(name):
            variables[name] = value
    return MappingProxyType(variables), tuple(dict.fromkeys(port_flags))


def _pairs(raw: object) -> Iterator[tuple[str, str | None]]:
    if isinstance(raw, dict):
        yield from ((str(name).strip(), _value(value)) for name, value in raw.items())
    elif isinstance(raw, str):
        yield from _docker_flags(raw)
    elif isinstance(raw, list):
        for one in raw:
            if isinstance(one, (list, tuple)) and one and (name := as_text(one[0])):
                yield name, _value(one[1]) if len(one) > 1 else None
            elif isinstance(one, str) and one.strip():
                yield _assignment(one.strip())
            elif isinstance(one, dict):
                yield from _pairs(one)


def _value(value: object) -> str | None:
    return value if isinstance(value, str) else as_text(value)


def _assignment(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if _FLAG.match(text):
        return text, "1"
    return name.strip(), value if equals else None


def split_words(text: str) -> list[str]:
    """Words as a shell makes them; where quotes are unbalanced, by white space."""
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return text.split()


def _docker_flags(text: str) -> Iterator[tuple[str, str | None]]:
    words = iter(split_words(text))
    for word in words:
        if word in ("-e", "--env"):
            yield _assignment(next(words, ""))
        elif word in ("-p", "--publish"):
            yield f"-p {next(words, '')}", "1"
        elif word.startswith("--env="):
            yield _assignment(word.removeprefix("--env="))
        elif _PORT_FLAG.match(word):
            yield word, "1"
        elif not word.startswith("-") and "=" in word:
            yield _assignment(word)
