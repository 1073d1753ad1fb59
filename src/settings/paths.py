"""Where files of the user lie: `~`, and the XDG base directories (freedesktop.org, version 0.8)."""

from collections.abc import Mapping
from pathlib import Path


def home(environ: Mapping[str, str]) -> Path | None:
    """The home directory as $HOME names it; None where nobody has one, as in some containers."""
    text = environ.get("HOME", "")
    return Path(text) if text else None


def expand_home(text: str, environ: Mapping[str, str]) -> Path:
    """The path with a leading `~` replaced by the home directory."""
    if (text == "~" or text.startswith("~/")) and (base := home(environ)) is not None:
        return base / text[2:]
    return Path(text)


def xdg_directory(variable: str, fallback: str, environ: Mapping[str, str]) -> Path | None:
    """The directory that an XDG variable names, else `fallback` below the home directory.

    A relative value is ignored, as the specification demands.
    """
    if (text := environ.get(variable, "")) and Path(text).is_absolute():
        return Path(text)
    base = home(environ)
    return None if base is None else base / fallback
