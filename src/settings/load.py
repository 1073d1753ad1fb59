"""Puts the settings together: flag over environment over `.env` over config file over built-in default."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError

from vastproxy.settings.check import check, cross_check_error
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.fields import CONFIG_VARIABLE, leaves
from vastproxy.settings.files import find_config_file, shown
from vastproxy.settings.model import Settings
from vastproxy.settings.secrets import resolve_secret
from vastproxy.settings.section import Section
from vastproxy.settings.sources import (
    Given,
    Layer,
    from_environment,
    from_file,
    from_flags,
    merge_environ,
    read_dotenv,
)

DOTENV = ".env"
DEFAULT_SOURCE = "built-in default"
SectionT = TypeVar("SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each came from. Secrets in `settings` may still be references."""

    settings: Settings
    #: Dotted path of every setting -> where its value came from, in words.
    provenance: Mapping[str, str]
    #: The config file that was read, None if there was none.
    config_path: Path | None
    #: The environment with `.env` below it; what references to secrets are looked up in.
    environ: Mapping[str, str] = field(repr=False)

    def resolved(self) -> Settings:
        """The settings with secrets in place of references. Raises SettingsError if one leads nowhere."""
        return resolve_secrets(self.settings, environ=self.environ)


def load(
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    config_path: Path | None = None,
) -> Loaded:
    """Read all sources and check what won.

    `overrides` are flags by dotted path (None: not given); `environ` defaults to the process's, `cwd` to the
    working directory, `config_path` to VASTPROXY_CONFIG and the usual places. Nothing but files is read and
    nothing is changed. Raises SettingsError, and nothing else, whatever the sources hold.
    """
    environ = os.environ if environ is None else environ
    cwd = _working_directory() if cwd is None else cwd
    dotenv = read_dotenv(cwd / DOTENV, DOTENV)
    merged = merge_environ(environ, dotenv)
    layers: list[Layer] = [
        from_flags(overrides or {}),
        from_environment(environ),
        from_environment(dotenv, dotenv=DOTENV),
    ]
    environment = _environment(layers)
    path = find_config_file(environment, given=config_path, variable=CONFIG_VARIABLE, environ=merged, cwd=cwd)
    if path is not None:
        layer = from_file(path, shown(path, cwd))
        _refuse_other_environment(
            layer, environment, chosen=config_path is None and CONFIG_VARIABLE not in merged
        )
        layers.append(layer)
    winners = _winners(layers)
    return Loaded(_build(winners), _provenance(winners), path, MappingProxyType(merged))


def load_settings(
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    config_path: Path | None = None,
) -> Settings:
    """`load` for those who want the settings only."""
    return load(overrides=overrides, environ=environ, cwd=cwd, config_path=config_path).settings


def effective_environ(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Mapping[str, str]:
    """The environment with the working directory's `.env` below it. Never changes os.environ.

    Raises SettingsError if `.env` cannot be read.
    """
    environ = os.environ if environ is None else environ
    cwd = _working_directory() if cwd is None else cwd
    return MappingProxyType(merge_environ(environ, read_dotenv(cwd / DOTENV, DOTENV)))


def resolve_secrets(settings: Settings, *, environ: Mapping[str, str]) -> Settings:
    """A copy in which every reference (`env:NAME`, `file:PATH`) is replaced by the secret it leads to."""
    for leaf in leaves().values():
        if leaf.is_secret:
            keys = leaf.path.split(".")
            settings = _replace(settings, keys, _resolve(_value_at(settings, keys), environ, leaf.path))
    return settings


def _resolve(value: Any, environ: Mapping[str, str], path: str) -> Any:
    if isinstance(value, tuple):
        return tuple(resolve_secret(secret, environ=environ, name=path) for secret in value)
    secret: SecretStr | None = value
    return resolve_secret(secret, environ=environ, name=path)


def _value_at(section: Section, keys: Sequence[str]) -> Any:
    value: Any = section
    for key in keys:
        value = getattr(value, key)
    return value


def _replace(section: SectionT, keys: Sequence[str], value: Any) -> SectionT:
    first, *rest = keys
    return section.model_copy(
        update={first: _replace(getattr(section, first), rest, value) if rest else value}
    )


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:
        raise SettingsError("the working directory does not exist any more; change to another one") from None


def _environment(layers: Sequence[Layer]) -> str:
    given = next((layer["environment"] for layer in layers if "environment" in layer), None)
    default: str = leaves()["environment"].default
    return default if given is None else str(check(leaves()["environment"], given))


def _refuse_other_environment(layer: Layer, environment: str, *, chosen: bool) -> None:
    """A file that was picked for one environment cannot say that this is another one."""
    given = layer.get("environment")
    if chosen and given is not None and given.value != environment:
        raise SettingsError(
            f"environment ({given.source}): expected {environment}, for which this file was picked; "
            "choose another one with VASTPROXY_ENV"
        )


def _winners(layers: Sequence[Layer]) -> dict[str, Given]:
    winners: dict[str, Given] = {}
    for layer in layers:
        for path, given in layer.items():
            winners.setdefault(path, given)
    return winners


def _provenance(winners: Mapping[str, Given]) -> Mapping[str, str]:
    return MappingProxyType(
        {path: winners[path].source if path in winners else DEFAULT_SOURCE for path in leaves()}
    )


def _build(winners: Mapping[str, Given]) -> Settings:
    tree: dict[str, Any] = {}
    for path, given in winners.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = check(leaves()[path], given)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise cross_check_error(error, {path: given.source for path, given in winners.items()}) from None
