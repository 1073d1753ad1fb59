"""The file in which pinned host keys are kept, and which several processes may share.

Writing re-reads the file under a lock (flock on `<file>.lock`) and edits what is there, so that two
processes never lose each other's pins; the file is replaced as a whole, so that nobody reads half of it.
All functions block for a moment: call them in a thread.
"""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

from vastproxy.services.tunnels.pins import PinBook, UnreadablePins, load_pins

logger = logging.getLogger(__name__)

#: A file beyond this is not ours: a full book of 4,096 pins has about 1.2 MB, with RSA keys 3 MB.
MAX_FILE_BYTES = 16 << 20


def read_book(path: FilePath) -> PinBook:
    """What is stored; nothing where there is no file.

    Raises UnreadablePins, and OSError where the file cannot be used, also because others may have written it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _require_ours(os.fstat(file.fileno()))
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return PinBook()
    if len(content) > MAX_FILE_BYTES:
        raise UnreadablePins(f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        return load_pins(content.decode())
    except UnicodeDecodeError as exc:
        raise UnreadablePins(str(exc)) from exc


def edit_book(path: FilePath, edit: Callable[[PinBook], PinBook]) -> PinBook:
    """Read, edit and replace the file under its lock; returns what is stored now.

    A file that is not readable as pins is moved aside with a warning. Raises BlockingIOError where another
    process holds the lock, OSError where the file cannot be used.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_name(path.name + ".lock")):
        try:
            stored = read_book(path)
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


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer where a named pipe is in this place."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_ours(status: os.stat_result) -> None:
    """Who can write this file decides which machines are trusted. Raises PermissionError."""
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EPERM, "it is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"it belongs to another user, {status.st_uid}")
    if status.st_mode & stat.S_IWOTH:
        raise PermissionError(errno.EPERM, "everybody may write it; run: chmod 600")


@contextlib.contextmanager
def _locked(path: FilePath) -> Iterator[None]:
    """Hold the lock file; the kernel releases it with the descriptor, also when we are killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
