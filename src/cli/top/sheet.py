"""A widget that shows lines and sends to the terminal only what has changed in them."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from vastproxy.cli.top.changes import changed, in_letters
from vastproxy.cli.top.look import Look


class Sheet(Widget):
    """Shows what it was given last, from the upper left; what does not fit is not seen."""

    def __init__(self, look: Look, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.look = look
        self._strips: list[Strip] = []

    @property
    def lines(self) -> list[str]:
        """What it shows, without styles."""
        return [strip.text.rstrip() for strip in self._strips]

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines from now on."""
        width = self.size.width
        before, self._strips = self._strips, [self._strip(line, width) for line in lines]
        for y in range(max(len(before), len(self._strips))):
            old = before[y] if y < len(before) else Strip.blank(width)
            new = self._strips[y] if y < len(self._strips) else Strip.blank(width)
            if old != new:
                spans = changed(list(old), list(new))
                self.refresh(*(Region(start, y, end - start, 1) for start, end in spans))

    def render_line(self, y: int) -> Strip:
        """For Textual."""
        width = self.size.width
        return self._strips[y].adjust_cell_length(width) if y < len(self._strips) else Strip.blank(width)

    def _strip(self, line: Text, width: int) -> Strip:
        segments = [segment for segment in line.render(self.app.console, end="") if segment.text]
        if self.look.dash.isascii():
            segments = [Segment(in_letters(text), style, control) for text, style, control in segments]
        return Strip(segments).adjust_cell_length(width)
