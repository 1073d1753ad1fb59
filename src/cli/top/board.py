"""What is known of the proxy now: what it told last, and whether it is still there. Nothing here draws or asks."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vastproxy.cli.top.values import Row, identity, number, rows

#: Events and lines of the log that can be scrolled back to.
KEPT_EVENTS = 500
KEPT_LINES = 2_000

Link = Literal["connecting", "live", "lost"]


@dataclass(slots=True)
class Board:
    """`since`: when the link came to be as it is, on the clock of whoever writes here. `why`: what broke it."""

    url: str
    link: Link = "connecting"
    since: float = 0.0
    why: str = ""
    fleet: Row = field(default_factory=dict)
    requests: list[Row] = field(default_factory=list)
    events: deque[Row] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    missed: int = 0
    """Events that the proxy had to leave out, because we read too slowly."""
    _known: dict[tuple[float, float | None], None] = field(default_factory=dict)

    @property
    def backends(self) -> list[Row]:
        """Those with an id."""
        return [row for row in rows(self.fleet, "backends") if identity(row) is not None]

    def backend(self, id: int | None) -> Row | None:
        """The one with this id."""
        return next((row for row in self.backends if identity(row) == id), None)

    def connected(self, now: float) -> None:
        """The proxy answers."""
        if self.link != "live":
            self.link, self.since, self.why = "live", now, ""

    def lost(self, why: str, now: float) -> None:
        """It does not. What it said last is kept."""
        if self.link != "lost":
            self.link, self.since = "lost", now
        self.why = why

    def overview(self, fleet: Mapping[str, Any]) -> None:
        self.fleet = fleet

    def happened(self, event: Mapping[str, Any]) -> None:
        """An event; one that was told before, as after each new connection, is not told again."""
        seq = number(event, "seq")
        if seq is not None:
            # A proxy that was started anew counts from the beginning; the time tells its events apart.
            known = (seq, number(event, "at_unix"))
            if known in self._known:
                return
            self._known[known] = None
            if len(self._known) > 2 * KEPT_EVENTS:
                del self._known[next(iter(self._known))]
        self.events.append(event)

    def left_out(self, count: int) -> None:
        self.missed += count

    def running(self, requests: Iterable[Row]) -> None:
        """The requests that run or wait, the newest first."""
        self.requests = list(requests)

    def logged(self, line: str) -> None:
        self.lines.append(line)
