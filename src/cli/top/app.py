"""The dashboard: puts what is known on the terminal, and does what the keys say."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from vastproxy.cli.top import details, facts, keys, story, words
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.commands import Commands
from vastproxy.cli.top.dialogs import Choice
from vastproxy.cli.top.feed import News
from vastproxy.cli.top.header import header
from vastproxy.cli.top.layout import places
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.orders import Orders
from vastproxy.cli.top.pane import Pane
from vastproxy.cli.top.panes import BackendsPane, EventsPane, RequestsPane
from vastproxy.cli.top.screens import PageScreen
from vastproxy.cli.top.sheet import Sheet
from vastproxy.cli.top.values import count, identity, number, text

#: How long the answer to an order stands at the bottom.
NOTICE_S = 8.0
#: Events are drawn at most so often, however fast they come.
DRAW_EVERY_S = 0.25


class Heard(Message):
    """The proxy has told something, or has gone."""

    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news


class TopApp(App[str]):
    """The result is "stop" when the proxy beside us is to end, "leave" when it is not."""

    CSS = """
    Screen { layout: vertical; background: ansi_default; color: ansi_default; overflow: hidden hidden; }
    Sheet { background: ansi_default; color: ansi_default; }
    #header { height: 5; } #backends { height: 10; } #below { height: 1fr; } #footer { height: 1; }
    #events, #requests { width: 1fr; height: 100%; } #page { height: 1fr; }
    #filter { border: none; height: 1; padding: 0 1; background: ansi_default; color: ansi_default; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("question_mark", "help", show=False),
        Binding("slash", "filter", show=False),
        Binding("s", "sort(1)", show=False),
        Binding("S", "sort(-1)", show=False),
        Binding("v", "view", show=False),
        Binding("l", "log", show=False),
        Binding("enter", "details", show=False),
        Binding("escape", "clear", show=False, priority=True),
        Binding("p", "drain", show=False),
        Binding("a", "abort", show=False),
        Binding("c", "cancel", show=False),
        Binding("t", "trust", show=False),
        Binding("d", "destroy", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self,
        board: Board,
        orders: Orders,
        look: Look,
        *,
        interrupt: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`interrupt`: stops the proxy beside us, as Ctrl-C would; None where we only look at one."""
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark"
        self.animation_level = "none"
        self.look = look
        self._board = board
        self._orders = orders
        self._commands = Commands(orders, self)
        self._interrupt = interrupt
        self._clock = clock
        self._notice: Text | None = None
        self._is_stale = False
        self._below = "events"

    # -- what is on the terminal -------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Sheet(self.look, id="header")
        yield BackendsPane(self._board, self.look)
        with Horizontal(id="below"):
            yield EventsPane(self._board, self.look)
            yield RequestsPane(self._board, self.look)
        yield Sheet(self.look, id="footer")
        box = Input(id="filter", placeholder="filter: every word must match; enter keeps it, esc clears it", compact=True)
        box.cursor_blink = False
        yield box

    def on_mount(self) -> None:
        self._backends.focus()
        self.set_interval(DRAW_EVERY_S, self._catch_up)
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self.redraw)

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
        self._place(width, height, head)
        self._main.query_one("#header", Sheet).show(head)
        for pane in (self._backends, self._events, self._requests):
            pane.redraw()
        self._draw_footer()
        if isinstance(self.screen, PageScreen):
            self.screen.page.redraw()

    def _place(self, width: int, height: int, head: list[Text]) -> None:
        """Give everybody his lines."""
        backends = self._backends
        backends.room = height - len(head) - 1 - (8 if height >= 24 else 4)
        at = places(width, height, header=len(head), needed=backends.arrange())
        self._main.query_one("#header").styles.height = len(head)
        backends.styles.height = at.backends
        self._main.query_one("#below").display = at.below > 0
        self._events.display = at.side_by_side or self._below == "events"
        self._requests.display = at.side_by_side or self._below == "requests"

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

    def on_descendant_focus(self) -> None:
        """Of events and requests, a narrow terminal shows the one that was looked at last."""
        pane = self._pane
        if pane.id in ("events", "requests") and pane.id != self._below:
            self._below = pane.id
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

    # -- what keys do ------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Over another screen, keys that move about the dashboard are that screen's."""
        if action in ("filter", "sort", "view", "log", "details", "cancel", "help", "leave"):
            return len(self.screen_stack) == 1
        if action == "clear":
            return len(self.screen_stack) == 1 and not isinstance(self.screen, Choice)
        return True

    def action_interrupt(self) -> None:
        """Ctrl-C."""
        if self._interrupt is not None:
            self._interrupt()
        self.exit("leave")

    def action_leave(self) -> None:
        if self._interrupt is None:
            self.exit("leave")
        else:
            self._begin(self._leave())

    async def _leave(self) -> None:
        running = count(self._board.fleet.get("totals") or {}, "in_flight")
        said = ["Stop the proxy too?"]
        if running:
            said.append(f"{running} {'request runs' if running == 1 else 'requests run'}, and may end first.")
        answers = {"y": "stop it", "n": "let it run; its log goes on here"}
        letters = self.look.dash.isascii()
        match await self.push_screen_wait(Choice(said, answers, letters=letters, no="stay")):
            case "y":
                self.action_interrupt()
            case "n":
                self.exit("leave")

    def action_help(self) -> None:
        self.push_screen(PageScreen(self.look, "Help", lambda width: keys.help_lines(self.look)))

    def action_filter(self) -> None:
        box = self._main.query_one("#filter", Input)
        self._filtered = self._pane
        box.value = self._filtered.sought
        self._main.query_one("#footer").display = False
        box.display = True
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter" and event.input.display:
            self._filtered.sought = event.value.strip()
            self.redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self._end_filter()

    def _end_filter(self) -> None:
        self._main.query_one("#filter").display = False
        self._main.query_one("#footer").display = True
        self._filtered.focus()
        self.redraw()

    def action_clear(self) -> None:
        """Escape: no filter."""
        self._pane.sought = ""
        if self._main.query_one("#filter").display:
            self._filtered.sought = ""
            self._end_filter()
        self.redraw()

    def action_sort(self, by: int) -> None:
        orders = list(facts.ORDERS)
        self._backends.order = orders[(orders.index(self._backends.order) + by) % len(orders)]
        self.redraw()

    def action_view(self) -> None:
        self._backends.wants_cards = not self._backends.has_cards
        self.redraw()

    def action_log(self) -> None:
        if self._interrupt is None:
            self.tell("the log is where the proxy runs; this shows one over HTTP", is_bad=True)
            return
        self._events.shows_log = not self._events.shows_log
        self._below = "events"
        self.redraw()

    def on_pane_opened(self) -> None:
        self.action_details()

    def action_details(self) -> None:
        pane = self._pane
        if isinstance(pane, RequestsPane):
            if pane.current is not None:
                self._begin(self._tell_request(text(pane.current, "id")))
            return
        if isinstance(pane, EventsPane):
            id = number(pane.current or {}, "instance")
            self._begin(self._tell_backend(None if id is None else int(id)))
        else:
            self._begin(self._tell_backend(self._backends.chosen_id))

    async def _tell_backend(self, id: int | None) -> None:
        if id is None or self._board.backend(id) is None:
            self.tell("there is no instance to tell about", is_bad=True)
            return
        self._backends.chosen_id = id
        more = await self._commands.found(lambda: self._orders.backend(id)) or {}

        def lines(width: int) -> list[Text]:
            row = self._board.backend(id) or more
            happened = [one for one in self._board.events if number(one, "instance") == id]
            return details.lines(row, more, happened, width, self.look)

        await self.push_screen(PageScreen(self.look, f"#{id}", lines))

    async def _tell_request(self, id: str) -> None:
        trace = await self._commands.found(lambda: self._orders.request(id))
        if trace is not None:
            await self.push_screen(PageScreen(self.look, "Request", lambda width: story.lines(trace, width)))

    def action_drain(self) -> None:
        if (row := self._backends.current) is not None:
            self._begin(self._commands.drain(row))

    def action_abort(self) -> None:
        self._begin(self._commands.abort(self._board.fleet, self._backends.current))

    def action_cancel(self) -> None:
        if isinstance(self._pane, RequestsPane) and self._pane.current is not None:
            self._begin(self._commands.cancel(self._pane.current))
        else:
            self.tell("tab leads to the requests; c cancels the chosen one", is_bad=True)

    def action_trust(self) -> None:
        if (row := self._backends.current) is not None:
            self._begin(self._commands.trust(row))

    def action_destroy(self) -> None:
        ids = [id for row in self._board.backends if (id := identity(row)) is not None]
        if (row := self._backends.current) is not None:
            self._begin(self._commands.destroy(row, ids))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.run_worker(work, exit_on_error=False)

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
