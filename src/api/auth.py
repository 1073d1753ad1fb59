"""Who may ask: the inbound keys of this process, from its settings and from the file that `vastproxy keys` writes.

The file is looked at when a request comes, at most ten times a second: one call of stat, and nobody has to watch it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vastproxy.services.access.callers import Callers
from vastproxy.services.access.keyfile import read_keys
from vastproxy.services.access.records import KeyBook, UnreadableKeys
from vastproxy.services.access.usefile import note_use, use_path
from vastproxy.services.ownfile import stamp_of
from vastproxy.settings import SettingsError

logger = logging.getLogger(__name__)

#: A key that is revoked is refused this much later, at most.
LOOK_EVERY_S = 0.1


class KeyRing:
    """The accepted keys. `keys`: those from the settings, whose bearers may do everything; an empty one opens nothing.

    `clock` tells Unix time, `monotonic` seconds that never go back.
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plain = tuple(key for key in keys if key)
        self._clock = clock
        self._monotonic = monotonic
        self._path: Path | None = None
        self._stamp: tuple[int, ...] = ()
        self._book: KeyBook | None = None
        self._look_at = float("inf")
        self._callers = Callers(self._plain)
        self._used: set[str] = set()
        self._tells_use = True
        self._own: str | None = None

    def __bool__(self) -> bool:
        """Is a key asked for?"""
        return self.current().asks_for_key

    def __repr__(self) -> str:
        return f"<KeyRing {self._callers!r} {self._path or 'without a file'}>"

    def vouch(self, key: str) -> None:
        """Accept this key as well, for everything. It does not make others bring one."""
        self._own = key
        self._make()

    def follow(self, path: Path | None) -> None:
        """Accept the keys of this file too, as it is now and as it becomes. There may be none yet.

        Raises SettingsError when it cannot be used: nobody knows then whom to let in.
        """
        if path is None:
            return
        stamp = stamp_of(path)
        try:
            book = read_keys(path)
        except UnreadableKeys as error:
            raise SettingsError(f"the keys in {path} cannot be used: {error}") from None
        self._path, self._stamp, self._book = path, stamp, book
        self._look_at = self._monotonic() + LOOK_EVERY_S
        self._make()

    def current(self) -> Callers:
        """Everybody who may ask now. The same object until that changes."""
        if self._monotonic() >= self._look_at:
            self._look()
        return self._callers

    async def note_use(self) -> None:
        """Write down beside the file which of its keys have been used since the last time. Never raises."""
        path, now = self._path, self._clock()
        self._collect_use()
        used, self._used = self._used, set()
        if path is None or self._book is None or not used:
            return
        known = {key.prefix for key in self._book.keys}
        try:
            await asyncio.to_thread(note_use, use_path(path), dict.fromkeys(used & known, now), known)
        except OSError as error:
            if self._tells_use:
                self._tells_use = False
                logger.info(
                    "when keys are used cannot be written down: %s", (error.strerror or str(error)).lower()
                )

    def _collect_use(self) -> None:
        for caller in self._callers:
            if caller.used and caller.id is not None:
                caller.used = False
                self._used.add(caller.id)

    def _look(self) -> None:
        assert self._path is not None
        self._look_at = self._monotonic() + LOOK_EVERY_S
        stamp = stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            self._read(self._path)
        elif (at := self._callers.changes_at) is not None and self._clock() >= at:
            self._make()

    def _read(self, path: Path) -> None:
        try:
            book = read_keys(path)
        except UnreadableKeys as error:
            logger.warning(
                "the keys in %s cannot be used (%s); those known before stay in force", path, error
            )
            return
        if book is None:
            if self._book is None:
                return
            logger.warning(
                "%s is gone, and with it all keys in it; a key is asked for until the next start", path
            )
            book = KeyBook()
        self._book = book
        self._make()
        logger.info("inbound keys were read again: %d in %s", len(book.keys), path)

    def _make(self) -> None:
        self._collect_use()
        self._callers = Callers(
            self._plain,
            self._book,
            now=self._clock(),
            moment=self._monotonic(),
            meters=self._callers.meters,
            own=self._own,
        )
