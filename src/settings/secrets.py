"""Secrets: how a setting refers to one, and how the reference becomes the secret.

A value that begins with `env:` or `file:` is a reference wherever it stands. In a config file nothing
else is accepted, because config files get shared; flags and the environment may hold the secret itself.
`Settings` keeps the reference, so that a command that needs no secret does not fail for one that is
missing; `resolve_secret` is called by whoever needs it.
"""

import re
from collections.abc import Mapping

from pydantic import SecretStr

from vastproxy.settings.errors import SettingsError
from vastproxy.settings.paths import expand_home

SCHEMES = ("env:", "file:")
REFERENCE_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SECRET_BYTES = 64 * 1024


def is_reference(text: str) -> bool:
    """Does this text refer to a secret, rather than being one?"""
    return text.startswith(SCHEMES)


def read_reference(reference: str, *, environ: Mapping[str, str], name: str) -> str:
    """The secret that `env:NAME` or `file:PATH` refers to; of a file the first line, stripped.

    `name` is what the error calls the setting. Raises SettingsError if the reference leads nowhere or
    `reference` is none; the message never holds it, as it may be a secret written in the wrong place.
    """
    scheme, separator, target = reference.partition(":")
    target = target.strip()
    if separator and scheme == "env":
        return _from_environment(target, environ=environ, name=name)
    if separator and scheme == "file":
        return _from_file(target, environ=environ, name=name)
    raise SettingsError(f"{name}: write env:NAME or file:PATH instead of the secret; config files get shared")


def resolve_secret(secret: SecretStr | None, *, environ: Mapping[str, str], name: str) -> SecretStr | None:
    """The secret itself, whether a setting holds it or a reference to it. Raises as `read_reference`."""
    if secret is None or not is_reference(secret.get_secret_value()):
        return secret
    return SecretStr(read_reference(secret.get_secret_value(), environ=environ, name=name))


def _from_environment(variable: str, *, environ: Mapping[str, str], name: str) -> str:
    if not _ENV_NAME.fullmatch(variable):
        raise SettingsError(f"{name}: expected the name of an environment variable after env:")
    if not (value := environ.get(variable, "").strip()):
        raise SettingsError(f"{name}: the environment variable {variable} that it refers to is not set")
    return value


def _from_file(target: str, *, environ: Mapping[str, str], name: str) -> str:
    if not target:
        raise SettingsError(f"{name}: expected the path of a file after file:")
    path = expand_home(target, environ)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: {path} is not a text file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a path"
        raise SettingsError(f"{name}: cannot read {path}: {why}") from None
    lines = text.split("\n", 1)
    if not (value := lines[0].strip()):
        raise SettingsError(f"{name}: the first line of {path} is empty")
    return value
