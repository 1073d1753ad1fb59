"""How vast.ai is reached, and where the key comes from."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vastproxy.settings import SettingsError, load, read_reference
from vastproxy.settings.model import RetrySettings, VastCacheSettings, VastSettings
from vastproxy.settings.paths import home as home_of
from vastproxy.settings.paths import xdg_directory

KEY_NAME = "the vast.ai API key"
IN_SETTINGS = "the settings"
#: What the shipped config files say. It is looked at first anyway, so that where it is not set the key files follow.
_USUAL_REFERENCE = "env:VAST_API_KEY"
#: Key files of the official command line, in its order: vastai 1.9, `cli/util.py`.
_CLI_KEY_FILES = ("vast_tfa_key", "vast_api_key")
#: People copy the address with the path of the API; the root is what is wanted.
_API_PATH = re.compile(r"/+(api(/v[01])?/*)?$")
_LEGACY_KEY_FILE = ".vast_api_key"


@dataclass(frozen=True, slots=True)
class VastConfig:
    """Everything a client needs to know. Raises SettingsError for a key that no HTTP header can carry."""

    api_key: str = field(repr=False)
    """The secret."""
    url: str = "https://console.vast.ai"
    """API root without /api/v0."""
    key_source: str = "the caller"
    """Where the key came from, for messages."""
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    retries: RetrySettings = field(default_factory=RetrySettings)
    cache: VastCacheSettings = field(default_factory=VastCacheSettings)
    min_interval_scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "api_key", self.api_key.strip())
        object.__setattr__(self, "url", _API_PATH.sub("", self.url))
        if not self.api_key:
            raise SettingsError(f"{KEY_NAME} from {self.key_source} is empty")
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise SettingsError(
                f"{KEY_NAME} from {self.key_source} holds characters that no key has; copy it again"
            )

    @classmethod
    def from_settings(
        cls, section: VastSettings, environ: Mapping[str, str] | None = None, home: Path | None = None
    ) -> "VastConfig":
        """The configuration that settings describe, with the key found.

        `environ` is the process's environment unless given; `home` replaces the home directory in it.
        Raises SettingsError when there is no key, or a reference to one leads nowhere.
        """
        environ = os.environ if environ is None else environ
        key, source = find_api_key(section, environ, home)
        return cls(
            api_key=key,
            url=section.url,
            key_source=source,
            connect_timeout_s=section.connect_timeout_s,
            read_timeout_s=section.read_timeout_s,
            retries=section.retries,
            cache=section.cache,
            min_interval_scale=section.min_interval_scale,
        )


def find_api_key(
    section: VastSettings, environ: Mapping[str, str], home: Path | None = None
) -> tuple[str, str]:
    """The key and where it was found.

    Order: VAST_API_KEY, the settings' key or reference, the key files of the official command line. A key
    that stands in the settings themselves was put there by a flag or the environment, which come before
    VAST_API_KEY; of config files the settings accept references only.
    """
    configured = section.api_key.get_secret_value().strip() if section.api_key is not None else ""
    is_reference = configured.startswith(("env:", "file:"))
    if configured and not is_reference:
        return configured, IN_SETTINGS
    if from_environment := environ.get("VAST_API_KEY", "").strip():
        if from_environment.startswith(("env:", "file:")):
            return read_reference(from_environment, environ=environ, name="VAST_API_KEY"), "VAST_API_KEY"
        return from_environment, "VAST_API_KEY"
    if configured and configured != _USUAL_REFERENCE:
        return read_reference(configured, environ=environ, name="vast.api_key"), configured
    return _from_key_files(environ, home)


def _from_key_files(environ: Mapping[str, str], home: Path | None) -> tuple[str, str]:
    if home is not None:
        environ = {**environ, "HOME": str(home)}
    config_home = xdg_directory("XDG_CONFIG_HOME", ".config", environ)
    base = home_of(environ)
    candidates = [config_home / "vastai" / name for name in _CLI_KEY_FILES] if config_home else []
    if base is not None:
        candidates.append(base / _LEGACY_KEY_FILE)
    for path in candidates:
        if path.is_file():
            return read_reference(f"file:{path}", environ=environ, name=KEY_NAME), str(path)
    raise SettingsError(
        "no vast.ai API key: set VAST_API_KEY, or set vast.api_key to env:NAME or file:PATH, "
        "or run `vastai set api-key`; keys are made at https://cloud.vast.ai/manage-keys/"
    )


def load_vast_config(
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    cwd: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    config_path: Path | None = None,
) -> VastConfig:
    """Settings read as everywhere else (flags, environment, .env, config file), and the key found.

    Raises SettingsError.
    """
    loaded = load(environ=environ, cwd=cwd, overrides=overrides, config_path=config_path)
    config = VastConfig.from_settings(loaded.settings.vast, loaded.environ, home)
    if config.key_source != IN_SETTINGS:
        return config
    return replace(config, key_source=loaded.provenance["vast.api_key"])
