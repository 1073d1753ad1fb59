"""Host keys pinned at first sight, kept in a file that several proxies and the command line may share.

`refresh` and what changes pins do the file's input and output in a thread; `check` and `pinned` only look
at memory, because an SSH library asks about a key in the middle of a handshake. Where the file cannot be
used, pins live in memory and a warning says so once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath

from vastproxy.services.errors import ServiceError
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.pinfile import edit_book, read_book
from vastproxy.services.tunnels.pins import Change, Pin, PinBook, Sibling, UnreadablePins, Verdict
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home, xdg_directory

logger = logging.getLogger(__name__)

FILE_NAME = "host_keys.json"
#: How long another process may hold the lock. It holds it for milliseconds, unless it is stopped.
LOCK_LIMIT_S = 2.0
_LOCK_RETRY_S = 0.02


class PinsNotStored(ServiceError):
    """The file of pinned host keys cannot be written."""


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
        #: What was pinned or refused but could not be written.
        self._unsaved = PinBook()
        self._writing = asyncio.Lock()
        #: How often this process has changed the book.
        self._edits = 0
        self._warned = False

    def __repr__(self) -> str:
        return f"<HostKeyPins {self._path or 'in memory'} pins={len(self._book)}>"

    def pinned(self, identity: str, path: Path) -> str | None:
        """The key pinned for this identity on this path, as of the last `refresh`."""
        return self._book.pinned(identity, path)

    def pin(self, identity: str, path: Path) -> Pin | None:
        """The same with the time since when it is pinned."""
        return self._book.pins.get((identity, path))

    def check(self, identity: str, path: Path, key: str) -> Verdict:
        """What a key presented now is to us, as of the last `refresh`."""
        return self._book.check(identity, path, key)

    def sibling(self, identity: str, path: Path, key: str) -> Sibling:
        """What the other path says about a key presented on this one, as of the last `refresh`."""
        return self._book.sibling(identity, path, key)

    def changes(self, instance_id: int) -> tuple[Change, ...]:
        """The changed keys of an instance that wait for somebody to accept them, as of the last `refresh`."""
        return self._book.changes(instance_id)

    async def refresh(self) -> None:
        """Read what other processes pinned, accepted or forgot. Never raises: an unusable file is a warning."""
        if self._path is None:
            return
        edits = self._edits
        try:
            book = await asyncio.to_thread(read_book, self._path)
        except OSError as exc:
            self._warn(exc)
            return
        except UnreadablePins:
            # Under the lock it is moved aside, and only if it is still unreadable. What we know is not lost by that.
            await self._change(self._book.merged)
            return
        if edits == self._edits:  # else what was read may be older than what we have written meanwhile
            self._book = book.merged(self._unsaved)

    async def trust(self, identity: str, path: Path, key: str) -> Verdict:
        """Pin `key` unless another one is pinned. CHANGED means that the other one stays.

        With the first key of an identity, what was pinned for its predecessors of the same id is dropped.
        """
        verdict = Verdict.NEW

        def add(stored: PinBook) -> PinBook:
            nonlocal verdict
            verdict = stored.check(identity, path, key)
            if verdict is not Verdict.NEW:
                return stored
            return stored.without_predecessors(identity).with_pin(identity, path, key, now=self._clock())

        await self._change(add)
        return verdict

    async def refuse(self, identity: str, path: Path, key: str, *, address: str) -> None:
        """Remember a changed key, so that a person can look at it and accept it, also from another process.

        `address` is the `host:port` that presented it.
        """

        def remember(stored: PinBook) -> PinBook:
            return stored.with_refused(identity, path, key, address=address, now=self._clock())

        if remember(self._book) is not self._book:
            await self._change(remember)

    async def accept(self, change: Change) -> bool:
        """Pin the key that was refused in place of the pinned one, for a person who has looked at both.

        False, and nothing is done, when either has changed since. Raises PinsNotStored where the decision
        cannot be written.
        """
        accepted = False

        def replace(stored: PinBook) -> PinBook:
            nonlocal accepted
            at = (change.identity, change.path)
            now = stored.refused.get(at)
            accepted = (
                stored.pins.get(at) == change.pinned and now is not None and now.key == change.refused.key
            )
            if not accepted:
                return stored
            return stored.with_pin(change.identity, change.path, change.refused.key, now=self._clock())

        if not await self._change(replace):
            raise PinsNotStored(
                f"the decision cannot be written to {self._path}; make the file writable or set tunnels.state_dir"
            )
        return accepted

    async def recycled(self, identity: str) -> int:
        """Drop what is known of the predecessors of `identity`, once the API shows that it took their place.

        Returns how many pins there were.
        """
        gone = 0

        def drop(stored: PinBook) -> PinBook:
            nonlocal gone
            rest = stored.without_predecessors(identity)
            gone = len(stored) - len(rest)
            return rest

        await self._change(drop)
        return gone

    async def _change(self, edit: Callable[[PinBook], PinBook]) -> bool:
        """Apply `edit` to what is stored now and store the outcome. False: it is kept in memory only."""
        if self._path is None:
            self._book = edit(self._book)
            return True
        async with self._writing:
            try:
                book = await self._store(self._path, lambda stored: edit(stored.merged(self._unsaved)))
            except OSError as exc:
                self._warn(exc)
                before, self._book = self._book, edit(self._book)
                self._unsaved = self._unsaved.common(self._book).merged(self._book.news(before))
                return False
            finally:
                self._edits += 1
            self._book, self._unsaved = book, PinBook()
            return True

    async def _store(self, path: FilePath, edit: Callable[[PinBook], PinBook]) -> PinBook:
        """Edit the file in a thread; where another process holds the lock, try again for a while."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._lock_limit_s
        while True:
            try:
                return await asyncio.to_thread(edit_book, path, edit)
            except TimeoutError:
                if loop.time() >= give_up:
                    raise
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
