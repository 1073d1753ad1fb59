"""Reading config files: which one, its text, its JSON. Every failure becomes one line that names the file."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from vastproxy.settings.errors import SettingsError
from vastproxy.settings.paths import expand_home, xdg_directory

MAX_CONFIG_BYTES = 1 << 20


def find_config_file(
    environment: str, *, given: Path | None, variable: str, environ: Mapping[str, str], cwd: Path
) -> Path | None:
    """The config file to read, or None when built-in defaults shall do.

    `given` (a flag) wins, then the path in the environment variable `variable`; a file named in one of
    these ways must exist. Else ./config/vastai.<environment>.json, else the same name in
    $XDG_CONFIG_HOME/vastproxy.
    """
    named = given or (expand_home(text, environ) if (text := environ.get(variable, "").strip()) else None)
    if named is not None:
        path = cwd / named
        if not _exists(path):
            who = "--config" if given else variable
            raise SettingsError(f"{who}: there is no config file {shown(path, cwd)}")
        return path
    name = f"vastai.{environment}.json"
    candidates = [cwd / "config" / name]
    if (base := xdg_directory("XDG_CONFIG_HOME", ".config", environ)) is not None:
        candidates.append(base / "vastproxy" / name)
    return next((path for path in candidates if _exists(path)), None)


def shown(path: Path, cwd: Path) -> str:
    """The path as a person would write it: relative where it lies below the working directory."""
    return str(path.relative_to(cwd) if path.is_relative_to(cwd) else path)


def read_text(path: Path, name: str) -> str:
    """The text of a UTF-8 file. Raises SettingsError if it cannot be read, is too large or not text."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{name}: cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise SettingsError(f"{name}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}: not UTF-8 text (byte {error.start})") from None


def parse_json(text: str, name: str) -> Any:
    """The JSON value in a text. A key written twice is an error, as is what only Python calls JSON (NaN)."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SettingsError(f"{name}: the key {twice[:80]!r} is written twice")
        return result

    def no_constant(constant: str) -> NoReturn:
        raise SettingsError(f"{name}: {constant} is not valid JSON")

    try:
        return json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{name} line {error.lineno} column {error.colno}: not valid JSON ({error.msg})"
        ) from None
    except RecursionError:
        raise SettingsError(f"{name}: nested too deeply") from None
    except ValueError:
        # The interpreter's limit on the digits of a number.
        raise SettingsError(f"{name}: a number in it has too many digits") from None


def _exists(path: Path) -> bool:
    # A directory that we may not enter is as good as none. A file that we see and may not read is an error.
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True
