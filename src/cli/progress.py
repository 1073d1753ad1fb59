"""A sign that something takes time, for people at a terminal. Nothing of it goes to standard output."""

import contextlib
from contextlib import AbstractContextManager

from rich.console import Console
from rich.text import Text

from vastproxy.cli.consoles import plain_console


def waiting(text: str, *, console: Console | None = None) -> AbstractContextManager[object]:
    """A spinner with this text while the context lasts, on standard error; nothing where that is no terminal."""
    console = plain_console(stderr=True) if console is None else console
    # As Text: rich reads a str beside a spinner as markup, whatever the console says.
    return console.status(Text(text)) if console.is_terminal else contextlib.nullcontext()
