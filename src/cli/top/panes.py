"""The three lists of the dashboard: backends, events (or the log), requests in flight."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text

from vastproxy.cli.top import cards, events, facts, requests, table
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.pane import Pane
from vastproxy.cli.top.values import Row, holds, identity


class BackendsPane(Pane):
    """Rows, or cards where there is room for all of them. The chosen one stays chosen, wherever it is sorted to."""

    def __init__(self, board: Board, look: Look) -> None:
        super().__init__(look, id="backends")
        self._board = board
        self.order = "id"
        self.wants_cards: bool | None = None
        """None: as there is room."""
        self.chosen_id: int | None = None
        self.shown: list[Row] = []
        self.room = 0
        """Lines that it may have at most."""

    @property
    def current(self) -> Row | None:
        """The chosen backend."""
        return next((row for row in self.shown if identity(row) == self.chosen_id), None)

    @property
    def has_cards(self) -> bool:
        across = cards.across(self.size.width)
        if self.wants_cards is not None or across < 2:
            return bool(self.wants_cards) and across > 0
        return sum(cards.shelves(self.shown, self.size.width)) + 1 <= self.room

    def rearrange(self) -> int:
        """Filter and sort what there is now. Returns the lines that all of it takes, the title included."""
        self.shown = facts.arranged(self._board.backends, self.order, self.sought)
        if self.current is None:
            self.chosen_id = (
                identity(self.shown[min(self.chosen, len(self.shown) - 1)]) if self.shown else None
            )
        self.chosen = next((at for at, row in enumerate(self.shown) if identity(row) == self.chosen_id), 0)
        return 1 + len(self.heads()) + max(self.extent()[2], 1)

    def entries(self) -> int:
        return len(self.shown)

    def heads(self) -> list[Text]:
        return [] if self.has_cards else [table.head(self.size.width, self.look, self.order)]

    def extent(self) -> tuple[int, int, int]:
        if not self.has_cards:
            return super().extent()
        shelves = cards.shelves(self.shown, self.size.width)
        at = self.chosen // cards.across(self.size.width)
        return sum(shelves[:at]), sum(shelves[: at + 1]), sum(shelves)

    def body(self, top: int, room: int) -> Sequence[Text]:
        width, look = self.size.width, self.look
        if not self.shown:
            return [Text(f"  {table.empty(self.sought, len(self._board.backends))}", style="dim")]
        if self.has_cards:
            return cards.lines(self.shown, width, look, chosen=self.chosen)[top : top + room]
        return table.lines(self.shown[top : top + room], width, look, chosen=self.chosen - top)

    def title(self) -> Text:
        return self.named("Instances", len(self.shown)).append(f"  by {self.order}", style="dim")

    def chosen_again(self) -> None:
        self.chosen_id = identity(self.shown[self.chosen]) if self.shown else None

    def action_move(self, by: int) -> None:
        self._choose(self.chosen + by * (cards.across(self.size.width) if self.has_cards else 1))

    def place_at(self, x: int, y: int) -> int | None:
        if not self.has_cards:
            return super().place_at(x, y)
        across, line = cards.across(self.size.width), self.top + y
        for shelf, tall in enumerate(cards.shelves(self.shown, self.size.width)):
            if line < tall:
                place = shelf * across + min(x * across // self.size.width, across - 1)
                return place if place < len(self.shown) else None
            line -= tall
        return None


class EventsPane(Pane):
    """What has happened, the newest last; or the log of the proxy that we belong to."""

    follows: ClassVar[bool] = True

    def __init__(self, board: Board, look: Look) -> None:
        super().__init__(look, id="events")
        self._board = board
        self.shows_log = False

    @property
    def _shown(self) -> Sequence[Row | str]:
        if self.shows_log:
            return [line for line in self._board.lines if holds(line, self.sought)]
        return [one for one in self._board.events if holds(events.searched(one), self.sought)]

    @property
    def current(self) -> Row | None:
        """The event that was scrolled to."""
        shown = self._shown
        found = shown[self.chosen] if self.chosen < len(shown) else None
        return None if isinstance(found, str) else found

    def entries(self) -> int:
        return len(self._shown)

    def body(self, top: int, room: int) -> Sequence[Text]:
        shown, width = self._shown[top : top + room], self.size.width
        if not shown:
            return [Text(f"  nothing {'matches' if self.sought else 'has happened'} yet", style="dim")]
        return [
            events.log_line(one, width, self.look)
            if isinstance(one, str)
            else events.line(one, width, self.look)
            for one in shown
        ]

    def title(self) -> Text:
        shown = self.named("Log" if self.shows_log else "Events")
        if self.is_alone:
            shown.append(f"  tab: {len(self._board.requests)} requests", style="dim")
        return shown.append(f"  {self._board.missed} missed", style="yellow") if self._board.missed else shown


class RequestsPane(Pane):
    """Those in flight, the newest first."""

    def __init__(self, board: Board, look: Look) -> None:
        super().__init__(look, id="requests")
        self._board = board

    @property
    def _shown(self) -> list[Row]:
        return [one for one in self._board.requests if holds(requests.searched(one), self.sought)]

    @property
    def current(self) -> Row | None:
        """The chosen request."""
        shown = self._shown
        return shown[self.chosen] if self.chosen < len(shown) else None

    def entries(self) -> int:
        return len(self._shown)

    def body(self, top: int, room: int) -> Sequence[Text]:
        shown = self._shown[top : top + room]
        if not shown:
            return [Text(f"  no request {'matches' if self.sought else 'is in flight'}", style="dim")]
        marked = self.chosen - top if self.has_focus else None
        return [
            requests.line(one, self.size.width, self.look, chosen=at == marked)
            for at, one in enumerate(shown)
        ]

    def title(self) -> Text:
        shown = self.named("Requests", len(self._shown))
        return shown.append("  tab: instances", style="dim") if self.is_alone else shown
