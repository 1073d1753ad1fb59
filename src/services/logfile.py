"""A log file that does not grow without end, and that others may move away.

Made for the thread of a `LogWriter`: `write` blocks on the disk and raises OSError, as `os.write` does. Whether the
file is to be changed is decided by looking at it before each write, some ten times a second at the most; nothing is
counted that somebody else could have changed: `logrotate` may move it, copy and empty it, or delete it.
"""

import contextlib
import os
import stat
import threading
from pathlib import Path

#: Readable for the group, as logs in /var/log are; the umask may say less.
_MODE = 0o640


class LogFile:
    """Appends to `path`. Raises OSError when it cannot be opened.

    Before it would exceed `max_bytes` (0: never), it is renamed to `path.1`, what was `path.1` to `path.2` and so on;
    of these `keep` stay. Only whole lines are in a file, unless the disk was full in the middle of one. What is no
    regular file (a device, a named pipe) is neither renamed nor limited.
    """

    def __init__(self, path: Path, *, max_bytes: int = 0, keep: int = 5) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._inside_line = False
        self._moved = threading.Event()
        self._descriptor = self._open()

    def __repr__(self) -> str:
        return f"<LogFile {self._path}>"

    def reopen(self) -> None:
        """From any thread: open `path` anew before the next write, whatever it leads to then."""
        self._moved.set()

    def write(self, data: memoryview) -> int:
        """Append so much of `data` as ends with a line, or all of it if it ends none. Returns how many bytes were
        taken. Raises OSError."""
        now = os.fstat(self._descriptor)
        if not self._inside_line and (self._moved.is_set() or self._is_moved(now)):
            self._moved.clear()
            self._replace()
            now = os.fstat(self._descriptor)
        text = bytes(data)
        first = text.find(b"\n") + 1 or len(text)
        if self._inside_line:
            whole = text[:first]
        elif self._max_bytes > 0 and stat.S_ISREG(now.st_mode):
            room = self._max_bytes - now.st_size
            if now.st_size and first > room:
                self._rotate()
                room = self._max_bytes
            whole = text[: max(text.rfind(b"\n", 0, max(room, 0)) + 1, first)]
        else:
            whole = text[: text.rfind(b"\n") + 1] or text
        # After an error the rest of a line may go to another file: this one's disk may stay full for ever.
        self._inside_line = False
        count = os.write(self._descriptor, whole)
        self._inside_line = whole[count - 1 : count] != b"\n"
        return count

    def close(self) -> None:
        """Nothing will be written any more."""
        os.close(self._descriptor)

    def _open(self) -> int:
        # A named pipe without a reader would block for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(self._path, flags, _MODE)

    def _replace(self) -> None:
        """If it cannot be opened, the old one is written to, wherever it is now: better than nothing."""
        with contextlib.suppress(OSError):
            fresh = self._open()
            os.close(self._descriptor)
            self._descriptor = fresh

    def _is_moved(self, now: os.stat_result) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        except OSError:  # it cannot be looked at; so it cannot be opened either
            return False
        return (there.st_dev, there.st_ino) != (now.st_dev, now.st_ino)

    def _rotate(self) -> None:
        """What cannot be renamed stays where it is and grows: a line too much is better than one too few."""
        with contextlib.suppress(OSError):
            if not self._keep:
                os.unlink(self._path)
            for number in range(self._keep, 0, -1):
                older = self._numbered(number - 1) if number > 1 else self._path
                with contextlib.suppress(FileNotFoundError):
                    os.replace(older, self._numbered(number))
            self._replace()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
