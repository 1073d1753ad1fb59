"""When keys were last used, kept beside the keys for `vastproxy keys list`. All functions block for a moment.

It is a convenience and decides nothing: what cannot be read is not known, and the file of the keys is never touched.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from vastproxy.services.ownfile import read_own, replace, writing

_MAX_FILE_BYTES = 4 << 20


def use_path(keys: Path) -> Path:
    """Where it is kept for the keys in this file."""
    return keys.with_name(f"{keys.stem}.used.json")


def read_use(path: Path) -> dict[str, float]:
    """Unix time by the shown beginning of a key. Never raises."""
    try:
        found = json.loads(read_own(path, max_bytes=_MAX_FILE_BYTES) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: float(at)
        for key, at in found.items()
        if isinstance(at, int | float) and 0 <= at < 253_402_300_800
    }


def note_use(path: Path, used: Mapping[str, float], known: Collection[str]) -> None:
    """Add these moments to those of other processes; forget keys that are not among `known`. Raises OSError."""
    with writing(path) as real:
        merged = {key: at for key, at in read_use(real).items() if key in known}
        for key, at in used.items():
            merged[key] = max(at, merged.get(key, 0.0))
        replace(real, json.dumps({key: int(at) for key, at in merged.items()}, indent=2).encode() + b"\n")
