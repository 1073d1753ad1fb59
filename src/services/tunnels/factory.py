"""Chooses the SSH implementation and gives it what it needs: the client's keys and the pinned host keys."""

import os
from collections.abc import Mapping
from pathlib import Path

from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import TunnelEngine
from vastproxy.services.tunnels.hostcheck import HostKeyRules, ListedHostKeys, PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins, pins_path
from vastproxy.services.tunnels.keyaccess import KeyAccess
from vastproxy.services.tunnels.keys import load_client_keys
from vastproxy.services.tunnels.known_hosts import KnownHostsFile
from vastproxy.services.tunnels.passphrase import Prompt
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home, home
from vastproxy.settings.secrets import resolve_secret


def make_engine(
    settings: TunnelSettings, *, environ: Mapping[str, str] | None = None, prompt: Prompt | None = None
) -> TunnelEngine:
    """The engine that the settings ask for. Reads keys and known hosts; raises SettingsError when they cannot be used.

    `prompt` asks a person for the passphrase of a key.
    """
    environ = os.environ if environ is None else environ
    keys = load_client_keys(settings, home=home(environ), access=key_access(settings, environ, prompt=prompt))
    rules = host_key_rules(settings, environ)
    if settings.engine == "sshtunnel":
        from vastproxy.services.tunnels.sshtunnel_engine import SshtunnelEngine  # 50 ms that few need

        return SshtunnelEngine(settings, keys=keys, host_keys=rules, window_bytes=settings.window_bytes)
    return AsyncsshEngine(settings, keys=keys, host_keys=rules, window_bytes=settings.window_bytes)


def key_access(
    settings: TunnelSettings, environ: Mapping[str, str], *, prompt: Prompt | None = None
) -> KeyAccess:
    """What may be used to get at the client's keys. Raises SettingsError for a passphrase that is not there."""
    socket = environ.get("SSH_AUTH_SOCK", "")
    return KeyAccess(
        agent=settings.agent,
        agent_socket=Path(socket) if socket else None,
        passphrase=resolve_secret(settings.key_passphrase, environ=environ, name="tunnels.key_passphrase"),
        prompt=prompt,
    )


def host_key_rules(settings: TunnelSettings, environ: Mapping[str, str]) -> HostKeyRules:
    """Which host keys are accepted. Raises SettingsError when the known_hosts file cannot be used."""
    if settings.host_keys == "strict" and settings.known_hosts is not None:
        return ListedHostKeys(KnownHostsFile(expand_home(settings.known_hosts, environ)))
    return PinnedHostKeys(HostKeyPins(pins_path(settings, environ)))
