"""Of many failures some are told, and how many there were. Pure."""

from dataclasses import dataclass, replace
from typing import Final

from vastproxy.services.events import RequestFailed

#: Failures with one code that are told at once, and after how many seconds another one is.
BURST: Final = 5
EVERY_S: Final = 2.0
#: Codes told apart; ours are about twenty, and engines may answer any status from 500 on.
MAX_CODES: Final = 64
OTHER: Final = "other"


@dataclass(slots=True)
class _Kind:
    allowed: float
    at: float
    last: RequestFailed | None = None
    untold: int = 0


class FailureFilter:
    """Takes every failure, gives those that are to be told: of each code `BURST` at once, then one each `EVERY_S`,
    which says for how many it stands."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._ready: list[RequestFailed] = []

    def add(self, failure: RequestFailed, now: float) -> None:
        """One has happened."""
        code = failure.code if failure.code in self._kinds or len(self._kinds) < MAX_CODES else OTHER
        kind = self._kinds.get(code)
        if kind is None:
            kind = self._kinds[code] = _Kind(float(BURST), now)
        if kind.last is None and _may_tell(kind, now):
            self._ready.append(failure)
        else:
            kind.last = failure
            kind.untold += 1

    def due(self, now: float) -> list[RequestFailed]:
        """What is to be told now. To be asked now and then, also when there is nothing new."""
        for kind in self._kinds.values():
            if kind.last is not None and _may_tell(kind, now):
                self._ready.append(replace(kind.last, more=kind.untold - 1))
                kind.last, kind.untold = None, 0
        ready, self._ready = self._ready, []
        return ready


def _may_tell(kind: _Kind, now: float) -> bool:
    kind.allowed = min(kind.allowed + (now - kind.at) / EVERY_S, float(BURST))
    kind.at = now
    if kind.allowed < 1:
        return False
    kind.allowed -= 1
    return True
