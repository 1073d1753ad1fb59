"""What each source says, value by value and unchecked: flags, environment, `.env`, config file."""

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream

from vastproxy.settings.errors import SettingsError
from vastproxy.settings.fields import CONFIG_VARIABLE, PREFIX, canonical_variable, leaves, sections, variables
from vastproxy.settings.files import parse_json, read_text
from vastproxy.settings.suggest import suggest_path, suggest_variable

# A Kubernetes Service called vastproxy (or vastproxy-…) puts these into every pod beside it
# (Kubernetes docs, "Discovering services": {NAME}_SERVICE_HOST and Docker-link variables).
_KUBERNETES = re.compile(
    r"VASTPROXY_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"VASTPROXY_([A-Z0-9_]+_)?PORT")
_LINK = ("tcp://", "udp://", "sctp://")


class Form(Enum):
    """How a value is written, which decides how it is read."""

    TEXT = "text"
    JSON = "json"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it. `source` is where, in words; the value may be a secret."""

    value: Any = field(repr=False)
    source: str
    form: Form


Layer = Mapping[str, Given]


def from_flags(overrides: Mapping[str, object]) -> dict[str, Given]:
    """Values of the command line by dotted path; None means that the flag was not given."""
    layer: dict[str, Given] = {}
    for path, value in overrides.items():
        if value is None:
            continue
        if path not in leaves():
            raise SettingsError(f"{path} (command line): no such setting{suggest_path(path)}")
        layer[path] = Given(value, "command line", Form.TEXT if isinstance(value, str) else Form.PYTHON)
    return layer


def from_environment(environ: Mapping[str, str], *, dotenv: str | None = None) -> dict[str, Given]:
    """Values of environment variables, or of the `.env` file that is called `dotenv`.

    An empty variable counts as not set: compose files and unit files pass those on for unset ones.
    The long name of a setting wins over its short one.
    """
    layer: dict[str, Given] = {}
    for name in sorted(environ, key=lambda name: (name not in _short(), name)):
        text = environ[name].strip()
        if name not in variables():
            _refuse_unknown(name, text, dotenv)
        elif text:
            source = f"environment variable {name}" if dotenv is None else f"{name} in {dotenv}"
            layer[variables()[name]] = Given(text, source, Form.TEXT)
    return layer


def from_file(path: Path, shown: str) -> dict[str, Given]:
    """Values of a JSON config file by dotted path. Raises SettingsError if it cannot be read or parsed."""
    content = parse_json(read_text(path, shown), shown)
    if not isinstance(content, dict):
        raise SettingsError(f"{shown}: expected a JSON object at the top")
    content.pop("$schema", None)
    return dict(_flatten(content, "", shown))


def read_dotenv(path: Path, shown: str) -> dict[str, str]:
    """What a `.env` file says; empty when there is none (a directory of that name is a virtual environment).

    `${NAME}` is not expanded. Raises SettingsError for a line that is not `NAME=value`.
    """
    if not path.is_file():
        return {}
    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(read_text(path, shown))):
        if binding.error:
            raise SettingsError(f"{shown} line {binding.original.line}: expected NAME=value")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def merge_environ(environ: Mapping[str, str], dotenv: Mapping[str, str]) -> dict[str, str]:
    """The environment with `.env` below it; an empty variable hides nothing."""
    return {**environ, **{name: value for name, value in dotenv.items() if not environ.get(name, "").strip()}}


def _short() -> frozenset[str]:
    return frozenset(name for name, path in variables().items() if name != canonical_variable(path))


def _refuse_unknown(name: str, text: str, dotenv: str | None) -> None:
    if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or _is_kubernetes(name, text):
        return
    where = "environment variable" if dotenv is None else dotenv
    path = name.removeprefix(PREFIX).lower().replace("__", ".")
    if path in sections():
        below = next(leaf for leaf in leaves() if leaf.startswith(f"{path}."))
        raise SettingsError(
            f"{name} ({where}): a group of settings; set one of them, such as {canonical_variable(below)}"
        )
    raise SettingsError(f"{name[:80]} ({where}): no such setting{suggest_variable(name)}")


def _is_kubernetes(name: str, text: str) -> bool:
    if "__" in name:
        return False
    return bool(
        _KUBERNETES.fullmatch(name) or (_KUBERNETES_PORT.fullmatch(name) and text.lower().startswith(_LINK))
    )


def _flatten(content: Mapping[str, Any], prefix: str, shown: str) -> Iterable[tuple[str, Given]]:
    for key, value in content.items():
        path = f"{prefix}{key}"
        if path in leaves():
            yield path, Given(value, shown, Form.JSON)
        elif path not in sections():
            raise SettingsError(f"{path[:80]} ({shown}): no such setting{suggest_path(path)}")
        elif not isinstance(value, dict):
            raise SettingsError(f"{path} ({shown}): expected an object with settings")
        else:
            yield from _flatten(value, f"{path}.", shown)
