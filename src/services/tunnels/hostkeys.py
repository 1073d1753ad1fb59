"""Host keys pinned at first sight, kept in a file that several proxies may share.

`refresh` and `trust` do the file's input and output in a thread; `check` and `pinned` only look at
memory, because an SSH library asks about a key in the middle of a handshake. Writing re-reads the file
under a lock (flock on `<file>.lock`) and adds to it, so that two proxies never lose each other's pins.
Where the file cannot be used, pins live in memory and a warning says so once.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.pins import PinBook, UnreadablePins, Verdict, load_pins
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home, xdg_directory

logger = logging.getLogger(__name__)

FILE_NAME = "host_keys.json"
#: A file beyond this is not ours: a full book of 4,096 pins has about 1.2 MB, with RSA keys 3 MB.
MAX_FILE_BYTES = 16 << 20
#: How long another process may hold the lock. It holds it for milliseconds, unless it is stopped.
LOCK_LIMIT_S = 2.0
_LOCK_RETRY_S = 0.02


def pins_path(settings: TunnelSettings, environ: Mapping[str, str]) -> FilePath | None:
    """Where pins are kept: `tunnels.state_dir`, $XDG_STATE_HOME/vastproxy or ~/.local/state/vastproxy.

    None where nobody has a home directory, as in some containers: pins then live in memory.
    """
    if settings.state_dir is not None:
        return expand_home(settings.state_dir, environ) / FILE_NAME
    base = xdg_directory("XDG_STATE_HOME", ".local/state", environ)
    return None if base is None else base / "vastproxy" / FILE_NAME


class HostKeyPins:
    """The pins of this process. `path=None` keeps them in memory only. Used on one event loop."""

    def __init__(
        self,
        path: FilePath | None,
        *,
        clock: Callable[[], float] = time.time,
        lock_limit_s: float = LOCK_LIMIT_S,
    ) -> None:
        self._path = path
        self._clock = clock
        self._lock_limit_s = lock_limit_s
        self._book = PinBook()
        #: What was trusted but could not be written.
        self._unsaved = PinBook()
        self._writing = asyncio.Lock()
        self._warned = False

    def __repr__(self) -> str:
        return f"<HostKeyPins {self._path or 'in memory'} pins={len(self._book)}>"

    def pinned(self, identity: str, path: Path) -> str | None:
        """The key pinned for this identity on this path, as of the last `refresh`."""
        return self._book.pinned(identity, path)

    def check(self, identity: str, path: Path, key: str) -> Verdict:
        """What a key presented now is to us, as of the last `refresh`."""
        return self._book.check(identity, path, key)

    async def refresh(self) -> None:
        """Read what other processes pinned or forgot. Never raises: an unusable file is a warning."""
        if self._path is None:
            return
        try:
            book = await asyncio.to_thread(_read, self._path)
        except OSError as exc:
            self._warn(exc)
            return
        except UnreadablePins:
            await self._change(
                lambda stored: stored
            )  # under the lock it is moved aside, and only if still unreadable
            return
        self._book = book.merged(self._unsaved)

    async def trust(self, identity: str, path: Path, key: str) -> Verdict:
        """Pin `key` unless another one is pinned. CHANGED means that the other one stays."""
        verdict = Verdict.NEW

        def add(stored: PinBook) -> PinBook:
            nonlocal verdict
            verdict = stored.check(identity, path, key)
            return (
                stored.with_pin(identity, path, key, now=self._clock()) if verdict is Verdict.NEW else stored
            )

        before = self._book
        if not await self._change(add) and verdict is not Verdict.CHANGED:
            self._unsaved = self._unsaved.with_pin(identity, path, key, now=self._clock())
            self._book = before.merged(self._unsaved)
        return verdict

    async def forget(self, instance_id: int) -> int:
        """Drop the pins of an instance that was recycled or destroyed. Returns how many there were."""
        gone = 0

        def drop(stored: PinBook) -> PinBook:
            nonlocal gone
            rest = stored.without(instance_id)
            gone = len(stored) - len(rest)
            return rest

        self._unsaved = self._unsaved.without(instance_id)
        if not await self._change(drop):
            self._book = self._book.without(instance_id)
        return gone

    async def _change(self, edit: Callable[[PinBook], PinBook]) -> bool:
        """Apply `edit` to what is stored now and store the outcome. False: kept in memory only."""
        if self._path is None:
            self._book = edit(self._book)
            return True
        async with self._writing:
            try:
                self._book = await self._store(self._path, lambda stored: edit(stored.merged(self._unsaved)))
            except OSError as exc:
                self._warn(exc)
                edit(self._book)
                return False
            self._unsaved = PinBook()
            return True

    async def _store(self, path: FilePath, edit: Callable[[PinBook], PinBook]) -> PinBook:
        """Edit the file in a thread; where another process holds the lock, try again for a while."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._lock_limit_s
        while True:
            try:
                return await asyncio.to_thread(_edit_file, path, edit)
            except BlockingIOError:
                if loop.time() >= give_up:
                    raise TimeoutError("another process holds its lock") from None
            await asyncio.sleep(_LOCK_RETRY_S)

    def _warn(self, exc: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "host keys cannot be kept in %s (%s); they are pinned in memory until the next start. "
                "Make the file writable or set tunnels.state_dir.",
                self._path,
                exc.strerror or exc,
            )


def _read(path: FilePath) -> PinBook:
    """What is stored; nothing where there is no file. Raises OSError or UnreadablePins."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return PinBook()
    if len(content) > MAX_FILE_BYTES:
        raise UnreadablePins(f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        return load_pins(content.decode())
    except UnicodeDecodeError as exc:
        raise UnreadablePins(str(exc)) from exc


def _edit_file(path: FilePath, edit: Callable[[PinBook], PinBook]) -> PinBook:
    """Read, edit and replace the file under its lock. Raises BlockingIOError where the lock is taken."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_name(path.name + ".lock")):
        try:
            stored = _read(path)
        except UnreadablePins as exc:
            aside = path.with_name(path.name + ".unreadable")
            os.replace(path, aside)
            logger.warning(
                "%s does not hold pinned host keys (%s); it was moved to %s and host keys are trusted anew "
                "at the next connection to each instance",
                path,
                exc,
                aside,
            )
            stored = PinBook()
        edited = edit(stored)
        if edited != stored:
            _replace(path, edited.dump().encode())
        return edited


@contextlib.contextmanager
def _locked(path: FilePath) -> Iterator[None]:
    """Hold the lock file; the kernel releases it with the descriptor, also when we are killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _replace(path: FilePath, content: bytes) -> None:
    """Write a new file beside the old one (mode 0600) and put it in its place."""
    descriptor, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
