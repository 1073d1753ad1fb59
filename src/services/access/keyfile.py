"""The file in which the keys are kept. All functions block for a moment."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from vastproxy.services.access.records import KeyBook, UnreadableKeys, load_book
from vastproxy.services.ownfile import read_own, replace, writing
from vastproxy.settings import Settings
from vastproxy.settings.paths import expand_home, xdg_directory

FILE_NAME = "keys.json"
#: A full book has about 1 MB.
MAX_FILE_BYTES = 8 << 20

T = TypeVar("T")


class KeysOutOfReach(UnreadableKeys):
    """The file is there and cannot be read now, whatever it holds."""

    transient = True


def keys_path(settings: Settings, environ: Mapping[str, str]) -> Path | None:
    """Where keys are kept: `server.keys_file`, or keys.json in `tunnels.state_dir`, $XDG_STATE_HOME/vastproxy or
    ~/.local/state/vastproxy. None where nobody has a home directory."""
    if settings.server.keys_file is not None:
        return expand_home(settings.server.keys_file, environ)
    if settings.tunnels.state_dir is not None:
        return expand_home(settings.tunnels.state_dir, environ) / FILE_NAME
    base = xdg_directory("XDG_STATE_HOME", ".local/state", environ)
    return None if base is None else base / "vastproxy" / FILE_NAME


def read_keys(path: Path) -> KeyBook | None:
    """The keys of the file; None where there is no file.

    Raises UnreadableKeys when it holds something else, in one line that does not name the file; KeysOutOfReach when
    nobody can tell.
    """
    try:
        content = read_own(path, max_bytes=MAX_FILE_BYTES)
    except OSError as error:
        raise KeysOutOfReach((error.strerror or str(error)).lower()) from None
    return None if content is None else load_book(content)


def edit_keys(path: Path, edit: Callable[[KeyBook], tuple[KeyBook, T]], *, limit_s: float = 2.0) -> T:
    """Change the file under its lock; `edit` gets what is stored now. Returns what else `edit` did.

    Others may hold the lock for `limit_s`.
    Raises UnreadableKeys when the file holds something else (it is left as it is), and what `edit` raises.
    """
    try:
        with writing(path, limit_s=limit_s) as real:
            stored = read_keys(real) or KeyBook()
            edited, outcome = edit(stored)
            if edited != stored:
                replace(real, edited.dump().encode())
            return outcome
    except OSError as error:
        raise UnreadableKeys((error.strerror or str(error)).lower()) from None
