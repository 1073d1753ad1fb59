"""Chooses the SSH implementation and gives it what it needs: the client's keys and the pinned host keys."""

import os
from collections.abc import Mapping

from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import TunnelEngine
from vastproxy.services.tunnels.hostkeys import HostKeyPins, pins_path
from vastproxy.services.tunnels.keys import load_client_keys
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import home


def make_engine(settings: TunnelSettings, *, environ: Mapping[str, str] | None = None) -> TunnelEngine:
    """The engine that the settings ask for. Reads the SSH key; raises SettingsError when it cannot be used."""
    environ = os.environ if environ is None else environ
    keys = load_client_keys(settings, home=home(environ))
    pins = HostKeyPins(pins_path(settings, environ))
    return AsyncsshEngine(settings, keys=keys, pins=pins, window_bytes=settings.window_bytes)
