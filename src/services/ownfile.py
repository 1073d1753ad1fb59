"""A file of the user's that several processes read and write, and that decides what they trust.

Writing happens under a lock (flock on `<file>.lock`) and replaces the file as a whole, so that no two writers lose each
other's work and nobody reads half of it. All functions block for a moment.
"""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK_RETRY_S = 0.02

#: What tells one state of a file from another: device, inode, size, and when it was written; or why it cannot be told.
Stamp = tuple[int, ...]


def stamp_of(path: Path) -> Stamp:
    """What changes whenever the file does, also when a link on its way leads elsewhere. Never raises."""
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_own(path: Path, *, max_bytes: int) -> bytes | None:
    """What is in the file; None where there is none.

    Raises OSError where it cannot be used, also because it is too large, or everybody could have written it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            _require_ours(os.fstat(file.fileno()))
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        return None
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes} bytes")
    return content


@contextlib.contextmanager
def writing(path: Path, *, limit_s: float = 2.0) -> Iterator[Path]:
    """Nobody else writes the file meanwhile; makes its directory. Gives the path to be replaced, behind any links.

    Raises TimeoutError when another process holds the lock for `limit_s`, and OSError.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = real.with_name(real.name + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:  # the kernel releases it with the descriptor, also when we are killed
        give_up = time.monotonic() + limit_s
        while not _take(descriptor):
            if time.monotonic() >= give_up:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds its lock")
            threading.Event().wait(_LOCK_RETRY_S)
        yield real
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Put a new file, which only its owner can read, in the place of the old one. After a power cut it is either."""
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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer where a named pipe is in this place."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_ours(status: os.stat_result) -> None:
    """Raises PermissionError where somebody else may have written it."""
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EPERM, "it is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(errno.EPERM, f"it belongs to another user, {status.st_uid}")
    if status.st_mode & stat.S_IWOTH:
        raise PermissionError(errno.EPERM, "everybody may write it; run: chmod 600")
