"""Settings: what the user told us, checked, frozen, with secrets that do not print."""

from vastproxy.settings.errors import SettingsError
from vastproxy.settings.listen import ListenAddress, is_loopback, parse_listen
from vastproxy.settings.load import Loaded, effective_environ, load, load_settings, resolve_secrets
from vastproxy.settings.model import Settings
from vastproxy.settings.secrets import read_reference, resolve_secret

__all__ = [
    "ListenAddress",
    "Loaded",
    "Settings",
    "SettingsError",
    "effective_environ",
    "is_loopback",
    "load",
    "load_settings",
    "parse_listen",
    "read_reference",
    "resolve_secret",
    "resolve_secrets",
]
