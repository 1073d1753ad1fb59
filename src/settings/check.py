"""Turns what somebody wrote into a value of the right type, or into one line that says what is wrong."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr, ValidationError

from vastproxy.settings.errors import SettingsError
from vastproxy.settings.fields import Leaf
from vastproxy.settings.secrets import is_reference
from vastproxy.settings.sources import Form, Given

_MAX_SHOWN = 60
_USER_INFO = re.compile(r"//[^/@\s]*@")


def check(leaf: Leaf, given: Given) -> Any:
    """The value of one setting. Raises SettingsError naming the key, the source and what was expected.

    Values of files must have the right JSON type; text is converted. A secret in a file must be a reference.
    """
    where = f"{leaf.path} ({given.source})"
    try:
        value = _validate(leaf, given)
    except ValidationError as error:
        raise SettingsError(f"{where}: {_problem(leaf, given, error)}") from None
    except RecursionError:
        raise SettingsError(f"{where}: nested too deeply") from None
    if leaf.is_secret and given.form is Form.JSON and not all(map(is_reference, _plain(value))):
        raise SettingsError(
            f"{where}: write env:NAME or file:PATH instead of the secret; config files get shared"
        )
    return value


def cross_check_error(error: ValidationError, sources: Mapping[str, str]) -> SettingsError:
    """The error for settings that are fine each by itself but not together; names those that were given."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    origin = ", ".join(
        f"{name.removeprefix(path + '.')} from {source}"
        for name, source in sources.items()
        if name.startswith(f"{path}.")
    )
    words = _own_words(first) or "these settings do not go together"
    where = f" ({origin})" if origin else ""
    return SettingsError(f"{path or 'settings'}{where}: {words}")


def _validate(leaf: Leaf, given: Given) -> Any:
    adapter = leaf.adapter()
    if given.form is Form.JSON:
        return adapter.validate_json(json.dumps(given.value), strict=True)
    if given.form is Form.PYTHON or leaf.is_scalar:
        return adapter.validate_python(_fold_case(leaf, given.value))
    text = str(given.value)
    if leaf.is_list and not text.startswith("["):
        return adapter.validate_python([part for raw in text.split(",") if (part := raw.strip())])
    return adapter.validate_json(text)


def _fold_case(leaf: Leaf, value: Any) -> Any:
    """DEBUG for debug: people write levels and switches in either case."""
    if (
        get_origin(leaf.annotation) is Literal
        and isinstance(value, str)
        and value.lower() in get_args(leaf.annotation)
    ):
        return value.lower()
    return value


def _problem(leaf: Leaf, given: Given, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    if leaf.is_secret:
        return f"expected {_expected(leaf, given)}"
    return _own_words(first) or f"expected {_expected(leaf, given)}, got {_shown(given.value)}"


def _expected(leaf: Leaf, given: Given) -> str:
    words = leaf.expected
    if leaf.is_secret and given.form is not Form.JSON:
        words = words.replace("env:NAME", "the secret, env:NAME", 1)
    if leaf.is_list and given.form is Form.TEXT:
        words = words.replace("a list;", "a list, comma separated or as JSON;", 1)
    return words


def _own_words(details: Any) -> str | None:
    """What one of our validators said, if it was one."""
    return str(details["ctx"]["error"]) if details["type"] == "value_error" else None


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    text = _USER_INFO.sub("//…@", text)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _plain(value: Any) -> list[str]:
    secrets = value if isinstance(value, tuple) else (value,)
    return [secret.get_secret_value() for secret in secrets if isinstance(secret, SecretStr)]
