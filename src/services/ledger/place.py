"""Where the ledger is kept."""

from collections.abc import Mapping
from pathlib import Path

from vastproxy.settings import Settings
from vastproxy.settings.paths import expand_home, xdg_directory

FILE_NAME = "ledger.db"


def ledger_path(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    """`ledger.path`, or ledger.db in `tunnels.state_dir`, $XDG_STATE_HOME/vastproxy or ~/.local/state/vastproxy. None
    where it is switched off, or nobody has a home directory."""
    if not settings.ledger.enabled:
        return None
    if settings.ledger.path is not None:
        return expand_home(settings.ledger.path, environ)
    if settings.tunnels.state_dir is not None:
        return expand_home(settings.tunnels.state_dir, environ) / FILE_NAME
    base = xdg_directory("XDG_STATE_HOME", ".local/state", environ)
    return None if base is None else base / "vastproxy" / FILE_NAME
