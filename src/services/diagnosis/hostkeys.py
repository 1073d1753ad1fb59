"""Looking at host keys without pinning or remembering any: the rule of a login that shall leave no trace."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.hostcheck import HostKeyCheck, HostKeyRefused, changed_text
from vastproxy.services.tunnels.known_hosts import kinds
from vastproxy.services.tunnels.pinfile import read_book
from vastproxy.services.tunnels.pins import Pin, PinBook, UnreadablePins, Verdict


@dataclass(frozen=True, slots=True)
class Shown:
    """A host key that was presented, and what it is to us. `pin` is what is pinned there."""

    key: str
    verdict: Verdict
    pin: Pin | None
    can_be_trusted: bool = False
    """Has a proxy refused the same key before, so that `vastproxy trust` knows of it?"""


@dataclass
class SeenHostKeys:
    """Host keys by what is pinned in a file, which is read and never written. See `HostKeyRules`.

    `shown` has what was presented, by identity and address. Used on one event loop.
    """

    file: FilePath | None
    shown: dict[tuple[str, SshAddress], Shown] = field(default_factory=dict)
    trouble: str = ""
    """Why the file cannot be used; pins are not known then."""

    async def begin(self, target: TunnelTarget, address: SshAddress) -> HostKeyCheck:
        """See `HostKeyRules.begin`."""
        return _Look(await self._book(), target, address, self.shown)

    async def recycled(self, identity: str) -> None:
        """Nothing is forgotten either."""

    async def _book(self) -> PinBook:
        if self.file is None:
            return PinBook()
        try:
            return await asyncio.to_thread(read_book, self.file)
        except OSError as error:
            self.trouble = f"{self.file} cannot be used: {error.strerror or error}"
        except UnreadablePins as error:
            self.trouble = f"{self.file} does not hold pinned host keys ({error})"
        return PinBook()


class _Look:
    """One login's look."""

    def __init__(
        self,
        book: PinBook,
        target: TunnelTarget,
        address: SshAddress,
        shown: dict[tuple[str, SshAddress], Shown],
    ) -> None:
        self._book = book
        self._target = target
        self._address = address
        self._shown = shown
        self._at: tuple[str, Path] = (target.identity, address.path)
        self._seen: Shown | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        pinned = self._book.pinned(*self._at)
        return () if pinned is None else kinds([pinned])

    def accepts(self, key: str) -> bool:
        verdict = self._book.check(*self._at, key)
        refused = self._book.refused.get(self._at)
        known = refused is not None and refused.key == key
        self._seen = Shown(key, verdict, self._book.pins.get(self._at), known)
        self._shown[self._target.identity, self._address] = self._seen
        return verdict is not Verdict.CHANGED

    async def confirm(self) -> None:
        """Nothing is kept."""

    async def refusal(self) -> HostKeyRefused | None:
        seen = self._seen
        if seen is None or seen.verdict is not Verdict.CHANGED or seen.pin is None:
            return None
        sibling = self._book.sibling(*self._at, seen.key)
        who = f"instance {self._target.instance_id} ({self._address})"
        text = changed_text(who, self._target.instance_id, self._address.path, seen.pin, seen.key, sibling)
        return HostKeyRefused(text, path=self._address.path, presented=seen.key)
