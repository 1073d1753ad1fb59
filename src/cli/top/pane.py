"""A list that is scrolled with the keys and the wheel: its title, then as many lines as fit."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from vastproxy.cli.top import words
from vastproxy.cli.top.layout import scrolled
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.sheet import Sheet


class Pane(Sheet, can_focus=True):
    """What a list looks like is its subclass's business: `entries`, `body` and `name_now`.

    `chosen` is the place of an entry; with `follows` the last one is in view until somebody scrolls up.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("left", "step(-1)", show=False),
        Binding("right", "step(1)", show=False),
        Binding("home,g", "edge(-1)", show=False),
        Binding("end,G", "edge(1)", show=False),
    ]
    follows: ClassVar[bool] = False

    class Opened(Message):
        """Somebody wants to see more of the chosen entry."""

    def __init__(self, look: Look, *, id: str) -> None:
        super().__init__(look, id=id)
        self.sought = ""
        """What the filter says."""
        self.chosen = 0
        self.top = 0
        self.is_alone = False
        """Is another list hidden behind this one?"""
        self._at_end = self.follows

    # -- what a subclass says ----------------------------------------------------------------------------

    def entries(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def heads(self) -> list[Text]:
        """Lines below the title that stay."""
        return []

    def extent(self) -> tuple[int, int, int]:
        """Of the chosen entry its first line and the one behind the last, and how many lines all take."""
        return self.chosen, self.chosen + 1, self.entries()

    def body(self, top: int, room: int) -> Sequence[Text]:
        """So many lines from `top` on."""
        raise NotImplementedError

    def title(self) -> Text:
        """What stands in the line above, without a rule."""
        raise NotImplementedError

    def chosen_again(self) -> None:
        """Somebody has chosen another entry."""

    # -- drawing -----------------------------------------------------------------------------------------

    def redraw(self) -> None:
        """Show what there is now."""
        if not self.is_mounted or self.size.height == 0:
            return
        heads = self.heads()
        room = max(self.size.height - 1 - len(heads), 0)
        many = self.entries()
        if self.follows and self._at_end:
            self.chosen = many - 1
        self.chosen = max(min(self.chosen, many - 1), 0)
        first, behind, total = self.extent()
        self.top = scrolled(self.top, first, behind, room, total)
        self.show([self._rule(room, total), *heads, *self.body(self.top, room)])

    def _rule(self, room: int, total: int) -> Text:
        width, rule = self.size.width, self.look.rule
        seen = f" {self.top + 1}-{min(self.top + room, total)} of {total} " if 0 < room < total else ""
        title = words.fitted(self.title(), width - 6, self.look)
        gap = width - title.cell_len - len(seen) - 4
        line = rule * max(gap, 0)
        return words.padded(
            Text.assemble((f"{rule} ", "dim"), title, (f" {line}{seen}{rule}", "dim")), width, self.look
        )

    def named(self, word: str, count: int | None = None) -> Text:
        """A title: who has the focus is bold."""
        shown = Text(word, style="bold" if self.has_focus else "dim")
        if count is not None:
            shown.append(f" {count}")
        if self.sought:
            shown.append(f"  /{self.sought}", style="cyan")
        return shown

    # -- moving ------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        self._choose(self.chosen + by)

    def action_step(self, by: int) -> None:
        self._choose(self.chosen + by)

    def action_page(self, by: int) -> None:
        lines = by * max(self.size.height - 3, 1)
        self.top = max(self.top + lines, 0)
        self._choose(self.chosen + lines)

    def action_edge(self, by: int) -> None:
        self._choose(0 if by < 0 else self.entries() - 1)

    def _choose(self, place: int) -> None:
        many = self.entries()
        self.chosen = max(min(place, many - 1), 0)
        self._at_end = self.follows and self.chosen >= many - 1
        self.chosen_again()
        self.redraw()

    def place_at(self, x: int, y: int) -> int | None:
        """The entry at this cell of the body."""
        place = self.top + y
        return place if 0 <= place < self.entries() else None

    def on_click(self, event: events.Click) -> None:
        y = event.y - 1 - len(self.heads())
        place = self.place_at(event.x, y) if y >= 0 else None
        if place is None:
            return
        was_chosen = place == self.chosen
        self._choose(place)
        if was_chosen or event.chain == 2:
            self.post_message(self.Opened())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-3)

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def on_resize(self) -> None:
        self.redraw()
