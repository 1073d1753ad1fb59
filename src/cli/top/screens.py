"""Whole screens over the dashboard: all about an instance, the story of a request, help."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from vastproxy.cli.top.layout import scrolled
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.pane import Pane


class Page(Pane):
    """Lines that are only read: the keys scroll."""

    def __init__(self, look: Look, name: str, lines: Callable[[int], Sequence[Text]]) -> None:
        """`lines`: for so many columns."""
        super().__init__(look, id="page")
        self._heading = name
        self._tell = lines
        self._lines: Sequence[Text] = ()

    def redraw(self) -> None:
        self._lines = self._tell(self.size.width)
        room = max(self.size.height - 1, 1)
        self.top = max(min(self.top, len(self._lines) - room), 0)
        self.chosen = self.top
        super().redraw()

    def entries(self) -> int:
        return len(self._lines)

    def extent(self) -> tuple[int, int, int]:
        return self.top, self.top + 1, len(self._lines)

    def body(self, top: int, room: int) -> Sequence[Text]:
        return self._lines[top : top + room]

    def title(self) -> Text:
        return Text.assemble((self._heading, "bold"), ("  esc: back", "dim"))

    def _choose(self, place: int) -> None:
        room = max(self.size.height - 1, 1)
        self.top = scrolled(place, place, place + 1, room, len(self._lines))
        self.redraw()


class PageScreen(Screen[None]):
    """A page that fills the terminal, the keys of the dashboard go on to work."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,question_mark", "dismiss", show=False)]

    def __init__(self, look: Look, name: str, lines: Callable[[int], Sequence[Text]]) -> None:
        super().__init__()
        self.page = Page(look, name, lines)

    def compose(self) -> ComposeResult:
        yield self.page

    def on_mount(self) -> None:
        self.page.focus()
