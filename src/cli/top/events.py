"""What has happened, and the lines of the log, newest last. Pure."""

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import LEVEL_STYLES, Look
from vastproxy.cli.top.values import Row, clean, number, text

_PREFIX = "[backend="


def line(event: Row, width: int, look: Look) -> Text:
    """`12:00:01  #48001001 connecting → healthy`."""
    said = text(event, "text") or text(event, "kind").replace("_", " ") or look.dash
    instance = number(event, "instance")
    if said.startswith(_PREFIX):  # as the log has it
        said = said.partition("]")[2].strip()
    style = LEVEL_STYLES.get(text(event, "level"), "")
    shown = Text.assemble((words.clock(number(event, "at_unix"), look), "dim"), "  ")
    if instance is not None:
        shown.append(f"#{instance:.0f} ", style="bold")
    return words.padded(shown.append(said, style=style), width, look)


def log_line(said: str, width: int, look: Look) -> Text:
    """A line of the log as it is; warnings and worse have their colours."""
    shown = Text.from_ansi(said)
    shown.plain = clean(shown.plain)
    for level, style in LEVEL_STYLES.items():
        if f" {level} " in shown.plain[:40]:
            shown.stylize(style)
    return words.padded(shown, width, look)


def searched(event: Row) -> str:
    """What a filter looks through."""
    return " ".join(text(event, key) for key in ("text", "kind", "level", "instance"))
