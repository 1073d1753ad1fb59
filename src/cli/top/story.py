"""The story of a request as `vastproxy explain` tells it, as lines for a page."""

import io
from collections.abc import Sequence

from rich.text import Text

from vastproxy.cli import explained
from vastproxy.cli.consoles import plain_console
from vastproxy.cli.top.values import Row


def lines(trace: Row, width: int) -> Sequence[Text]:
    """For so many columns."""
    shown = io.StringIO()
    console = plain_console(file=shown, width=width - 4, force_terminal=True, color_system="standard")
    explained.request(console, trace)
    told = Text.from_ansi(shown.getvalue().rstrip())
    return [Text(), *(Text("  ").append_text(line) for line in told.wrap(console, max(width - 4, 10)))]
