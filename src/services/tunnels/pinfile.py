"""The file in which pinned host keys are kept, and which several processes may share.

Writing re-reads the file under its lock and edits what is there, so that two processes never lose each other's pins.
All functions block for a moment: call them in a thread.
"""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path as FilePath

from vastproxy.services.ownfile import read_own, replace, writing
from vastproxy.services.tunnels.pins import PinBook, UnreadablePins, load_pins

logger = logging.getLogger(__name__)

#: A file beyond this is not ours: a full book of 4,096 pins has about 1.2 MB, with RSA keys 3 MB.
MAX_FILE_BYTES = 16 << 20


def read_book(path: FilePath) -> PinBook:
    """What is stored; nothing where there is no file.

    Raises UnreadablePins, and OSError where the file cannot be used, also because others may have written it: who can
    write it decides which machines are trusted.
    """
    try:
        content = read_own(path, max_bytes=MAX_FILE_BYTES)
        return PinBook() if content is None else load_pins(content.decode())
    except UnicodeDecodeError as exc:
        raise UnreadablePins(str(exc)) from exc
    except OSError as exc:
        if exc.errno != errno.EFBIG:
            raise
        raise UnreadablePins(f"it has more than {MAX_FILE_BYTES} bytes") from exc


def edit_book(path: FilePath, edit: Callable[[PinBook], PinBook]) -> PinBook:
    """Read, edit and replace the file under its lock; returns what is stored now.

    A file that is not readable as pins is moved aside with a warning. Raises TimeoutError, at once, where another
    process holds the lock, OSError where the file cannot be used.
    """
    with writing(path, limit_s=0.0) as real:
        try:
            stored = read_book(real)
        except UnreadablePins as exc:
            aside = real.with_name(real.name + ".unreadable")
            os.replace(real, aside)
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
            replace(real, edited.dump().encode())
        return edited
