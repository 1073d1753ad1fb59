"""What keys do: the line at the bottom, and the page of help. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import Look

#: Key, word, and how soon it is left out where there is no room.
SHOWN: Final = (
    ("/", "filter", 4),
    ("s", "sort", 6),
    ("enter", "details", 3),
    ("p", "drain", 5),
    ("a", "abort", 7),
    ("d", "destroy", 8),
    ("t", "trust", 9),
    ("?", "help", 1),
    ("q", "quit", 0),
)
HELP: Final = (
    ("up down, j k, wheel", "move; pgup pgdn home end too"),
    ("tab", "instances, events, requests"),
    ("/", "filter what has the focus; every word must match; esc clears it"),
    ("s", "sort instances by the next thing, S by the one before"),
    ("v", "rows or cards"),
    ("enter", "all about the chosen instance or request"),
    ("l", "events, or the log of this proxy (where it runs in this terminal)"),
    ("", ""),
    ("p", "drain the chosen instance: no new requests; again: take that back"),
    ("a", "abort requests: all, or those of the chosen instance"),
    ("c", "cancel the chosen request"),
    ("t", "trust the changed host key of the chosen instance"),
    ("d", "destroy the chosen instance, or all: what to type is said"),
    ("", ""),
    ("q", "leave; beside a proxy that was started here, it asks whether to stop that"),
    ("ctrl-c", "leave; a proxy that was started here stops, politely first"),
)


def footer(width: int, look: Look) -> Text:
    """As many keys as fit."""
    kept = sorted(SHOWN, key=lambda each: each[2])
    while kept and sum(len(key) + len(word) + 3 for key, word, _ in kept) > width:
        kept.pop()
    line = Text(" ")
    for key, word, _ in (each for each in SHOWN if each in kept):
        line.append(key, style="bold").append(f" {word}  ", style="dim")
    return words.padded(line, width, look)


def help_lines(look: Look) -> Sequence[Text]:
    """Every key, then what the signs mean."""
    lines = [Text.assemble((f"  {key:<20}", "bold"), told) for key, told in HELP]
    signs = Text.assemble(
        "  ",
        (look.direct, "green"),
        " direct to the machine   ",
        (look.relay, "red"),
        " over the relay of vast.ai",
    )
    return [
        Text(),
        *lines,
        Text(),
        signs,
        Text(f"  {look.dash} means: not known. A ? behind the time left: somebody may outbid you."),
    ]
