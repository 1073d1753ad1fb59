"""A sign that something takes time, for people at a terminal. Nothing of it goes to standard output."""

import contextlib
from contextlib import AbstractContextManager

from rich.console import Console


def waiting(text: str, *, console: Console | None = None) -> AbstractContextManager[object]:
    """A spinner with this text while the context lasts, on standard error; nothing where that is no terminal."""
    console = Console(stderr=True, highlight=False) if console is None else console
    return console.status(text) if console.is_terminal else contextlib.nullcontext()
