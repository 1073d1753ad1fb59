"""The dashboard as it is looked at: puts what is known on the terminal, and hears what is new."""

import time
from collections.abc import Callable
from typing import Any

from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from vastproxy.cli.top import keys, words
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.feed import News
from vastproxy.cli.top.header import header
from vastproxy.cli.top.layout import places
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.pane import Pane
from vastproxy.cli.top.panes import BackendsPane, EventsPane, RequestsPane
from vastproxy.cli.top.screens import PageScreen
from vastproxy.cli.top.sheet import Sheet

#: How long the answer to an order stands at the bottom.
NOTICE_S = 8.0
#: Events are drawn at most so often, however fast they come.
DRAW_EVERY_S = 0.25


class Heard(Message):
    """The proxy has told something, or has gone."""

    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news


class Dashboard(App[None]):
    """What keys do is said by `TopApp`."""

    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; overflow: hidden hidden; }
    ModalScreen { background: transparent; }
    Sheet { background: ansi_default; color: ansi_default; }
    #header { height: 5; } #backends { height: 10; } #below { height: 1fr; } #footer { height: 1; }
    #events, #requests { width: 1fr; height: 100%; } #page { height: 1fr; }
    #filter { border: none; height: 1; padding: 0 1; background: ansi_default; color: ansi_default; display: none; }
    """
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, board: Board, look: Look, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self.look = look
        self._board = board
        self._clock = clock
        self._notice: Text | None = None
        self._is_stale = False
        self._below = "events"
        self._placed: tuple[object, ...] = ()
        self.started: Callable[[], object] = lambda: None
        """Called once there is a terminal to draw on."""

    # -- what is on the terminal -------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Sheet(self.look, id="header")
        yield BackendsPane(self._board, self.look)
        with Horizontal(id="below"):
            yield EventsPane(self._board, self.look)
            yield RequestsPane(self._board, self.look)
        yield Sheet(self.look, id="footer")
        box = Input(
            id="filter",
            placeholder="filter: every word must match; enter keeps it, esc clears it",
            compact=True,
        )
        box.cursor_blink = False
        yield box

    def on_mount(self) -> None:
        self._backends.focus()
        self.set_interval(DRAW_EVERY_S, self._catch_up)
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self.redraw)
        self.started()

    @property
    def _main(self) -> Screen[Any]:
        return self.screen_stack[0]

    @property
    def _backends(self) -> BackendsPane:
        return self._main.query_one(BackendsPane)

    @property
    def _events(self) -> EventsPane:
        return self._main.query_one(EventsPane)

    @property
    def _requests(self) -> RequestsPane:
        return self._main.query_one(RequestsPane)

    @property
    def _pane(self) -> Pane:
        """The list that keys are for."""
        focused = self._main.focused
        return focused if isinstance(focused, Pane) else self._backends

    def redraw(self) -> None:
        """Show what is known now."""
        if not self._main.is_mounted:
            return
        self._is_stale = False
        width, height = self.size
        head = header(self._board, width, self.look, now=self._clock())
        if height < 20:  # a short terminal has no line to spare
            del head[1]
        self._main.query_one("#header", Sheet).show(head)
        if self._place(width, height, head):
            self.call_after_refresh(self._draw_panes)  # when each has its new size
        else:
            self._draw_panes()
        self._draw_footer()
        if isinstance(self.screen, PageScreen):
            self.screen.page.redraw()

    def _draw_panes(self) -> None:
        for pane in (self._backends, self._events, self._requests):
            pane.redraw()

    def _place(self, width: int, height: int, head: list[Text]) -> bool:
        """Give everybody his lines. Has that changed anything?"""
        backends = self._backends
        backends.room = height - len(head) - 1 - (8 if height >= 24 else 4)
        at = places(width, height, header=len(head), needed=backends.rearrange())
        placed = (len(head), at, self._below, self._events.shows_log)
        if placed == self._placed:
            return False
        self._placed = placed
        self._main.query_one("#header").styles.height = len(head)
        backends.styles.height = at.backends
        self._main.query_one("#below").display = at.below > 0
        self._events.display = at.side_by_side or self._below == "events"
        beside = at.side_by_side and not self._events.shows_log  # its lines are long
        self._requests.display = beside or self._below == "requests"
        self._events.is_alone = self._requests.is_alone = not beside
        return True

    def _draw_footer(self) -> None:
        width = self.size.width
        shown = self._notice if self._notice is not None else keys.footer(width, self.look)
        self._main.query_one("#footer", Sheet).show([words.padded(shown, width, self.look)])

    def _catch_up(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._events.redraw()

    def _tick(self) -> None:
        """While nobody tells anything, only time goes on."""
        if self._board.link != "live":
            self.redraw()

    def on_resize(self) -> None:
        self.call_after_refresh(self.redraw)

    def show_below(self, pane: Pane) -> None:
        """Of events and requests, a narrow terminal shows this one."""
        self._below = pane.id or self._below
        self.redraw()

    # -- what is heard -----------------------------------------------------------------------------------

    def hear(self, news: News) -> None:
        """From any thread."""
        self.post_message(Heard(news))

    def on_heard(self, message: Heard) -> None:
        news, board = message.news, self._board
        match news.kind:
            case "connected":
                board.connected(self._clock())
            case "lost":
                board.lost(str(news.content), self._clock())
            case "fleet":
                board.overview(news.content)
            case "requests":
                board.running(news.content)
            case "happened" | "left_out" | "logged":
                if news.kind == "happened":
                    board.happened(news.content)
                elif news.kind == "left_out":
                    board.left_out(news.content)
                else:
                    board.lines.extend(news.content)
                self._is_stale = True
                return
        self.redraw()

    # -- what is told to whoever sits there --------------------------------------------------------------

    async def asked(self, dialog: Screen[str | None]) -> str | None:
        """See `Desk`."""
        return await self.push_screen_wait(dialog)

    def tell(self, said: str, *, is_bad: bool = False) -> None:
        """See `Desk`."""
        self._notice = notice = Text(f" {said}", style="red" if is_bad else "green")
        self._draw_footer()
        self.set_timer(NOTICE_S, lambda: self._forget(notice))

    def _forget(self, notice: Text) -> None:
        if self._notice is notice:
            self._notice = None
            self._draw_footer()
