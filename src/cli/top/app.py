"""The dashboard as it is used: what the keys do."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Input

from vastproxy.cli.top import details, facts, keys, story
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.commands import Commands
from vastproxy.cli.top.dashboard import Dashboard
from vastproxy.cli.top.dialogs import Choice
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.orders import Orders
from vastproxy.cli.top.pane import Pane
from vastproxy.cli.top.panes import EventsPane, RequestsPane
from vastproxy.cli.top.screens import PageScreen
from vastproxy.cli.top.values import count, identity, number, part, text


class TopApp(Dashboard):
    """`interrupt`: stops the proxy beside us, as Ctrl-C would; None where we only look at one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", show=False),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("tab", "turn(1)", show=False, priority=True),
        Binding("shift+tab", "turn(-1)", show=False, priority=True),
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

    def __init__(
        self, board: Board, orders: Orders, look: Look, *, interrupt: Callable[[], object] | None = None
    ) -> None:
        super().__init__(board, look)
        self._orders = orders
        self._commands = Commands(orders, self)
        self._interrupt = interrupt
        self._filtered_id = "backends"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Over another screen, keys that move about the dashboard are that screen's."""
        if action in ("filter", "sort", "view", "log", "details", "cancel", "help", "leave", "turn"):
            return len(self.screen_stack) == 1
        if action == "clear":
            return len(self.screen_stack) == 1 and not isinstance(self.screen, Choice)
        return True

    def action_interrupt(self) -> None:
        """Ctrl-C."""
        if self._interrupt is not None:
            self._interrupt()
        self.exit()

    def action_leave(self) -> None:
        if self._interrupt is None:
            self.exit()
        else:
            self._begin(self._leave())

    async def _leave(self) -> None:
        running = count(part(self._board.fleet, "totals"), "in_flight")
        said = ["Stop the proxy too?"]
        if running:
            said.append(f"{running} {'request runs' if running == 1 else 'requests run'}, and may end first.")
        answers = {"y": "stop it", "n": "let it run; its log goes on here"}
        letters = self.look.dash.isascii()
        match await self.asked(Choice(said, answers, letters=letters, no="stay here")):
            case "y":
                self.action_interrupt()
            case "n":
                self.exit()

    def action_turn(self, by: int) -> None:
        """To the next list, also where a narrow terminal does not show it yet."""
        lists: list[Pane] = [self._backends, self._events, self._requests]
        if not self._main.query_one("#below").display:
            return
        wanted = lists[(lists.index(self._pane) + by) % len(lists)]
        if wanted is self._requests:
            self._events.shows_log = False
        if wanted is not self._backends:
            self.show_below(wanted)
        wanted.focus()

    def action_help(self) -> None:
        self.push_screen(PageScreen(self.look, "Help", lambda width: keys.help_lines(self.look)))

    @property
    def _sought_in(self) -> Pane:
        """The list that the filter is typed for."""
        return self._main.query_one(f"#{self._filtered_id}", Pane)

    def action_filter(self) -> None:
        box = self._main.query_one("#filter", Input)
        self._filtered_id = self._pane.id or ""
        box.value = self._pane.sought
        self._main.query_one("#footer").display = False
        box.display = True
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter" and event.input.display:
            self._sought_in.sought = event.value.strip()
            self.redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self._end_filter()

    def _end_filter(self) -> None:
        self._main.query_one("#filter").display = False
        self._main.query_one("#footer").display = True
        self._sought_in.focus()
        self.redraw()

    def action_clear(self) -> None:
        """Escape: no filter."""
        self._pane.sought = ""
        if self._main.query_one("#filter").display:
            self._sought_in.sought = ""
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
        if self._requests.has_focus:
            self._events.focus()
        self.show_below(self._events)

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
