"""Why an instance could not be reached: what a person is told, how loudly, and how soon it is worth another try."""

import logging
import math
from collections.abc import Callable, Iterable

from vastproxy.services.errors import KeyRefused, KeyUnavailable, TunnelError, TunnelRefused
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import HostKeyRefused

logger = logging.getLogger(__name__)

#: A new instance may take so long until its sshd knows our key (vast.ai documentation, 2026-08).
NEW_KEY_S = 180.0
#: Longest pause where somebody may be about to make the next attempt a good one.
SOON_S = 20.0


class Refusals:
    """The last failure on each path, until one succeeds there."""

    def __init__(self, instance_id: int, clock: Callable[[], float]) -> None:
        self._id = instance_id
        self._clock = clock
        self._seen_at = clock()
        self._attempts = 0
        self._errors: dict[Path, str] = {}

    def __getitem__(self, path: Path) -> str | None:
        """Why the last attempt on this path came to nothing."""
        return self._errors.get(path)

    def note(self, race: Iterable[Path], error: TunnelError) -> float:
        """An attempt failed. Returns the longest pause that makes sense before the next one, in seconds."""
        self._attempts += 1
        is_early = isinstance(error, KeyRefused) and self._clock() - self._seen_at < NEW_KEY_S
        text = str(error)
        if is_early:
            text = f"its sshd does not accept our key yet, which a new instance may take 3 minutes to do ({text})"
        is_news = any(self._errors.get(path) != text for path in race)
        for path in race:
            self._errors[path] = text
        if is_news:
            logger.log(
                _level(error, is_early),
                "[backend=%d] no tunnel (attempt %d): %s",
                self._id,
                self._attempts,
                text,
            )
        else:
            logger.debug("[backend=%d] still no tunnel (attempt %d): %s", self._id, self._attempts, text)
        return SOON_S if is_early or isinstance(error, HostKeyRefused | KeyUnavailable) else math.inf

    def connected(self, path: Path) -> None:
        """An attempt on this path succeeded."""
        self._errors.pop(path, None)
        self._attempts = 0

    def forget(self) -> None:
        """Another machine is behind the id now."""
        self._seen_at = self._clock()
        self._errors.clear()
        self._attempts = 0

    def text(self) -> str:
        """All of it in one line."""
        return "; ".join(dict.fromkeys(self._errors.values()))


def _level(error: TunnelError, is_early: bool) -> int:
    if isinstance(error, HostKeyRefused):
        return logging.ERROR
    return logging.WARNING if isinstance(error, TunnelRefused) and not is_early else logging.INFO
