"""Consoles that print text as it is: most of it comes from elsewhere, and none of it is written for rich."""

from typing import Any

from rich.console import Console


def plain_console(**options: Any) -> Console:
    """A console (with these options of rich's) that prints `[x]` and `:fire:` as they are; what is to have a style is
    handed over as `Text`. Rich leaves colours out where NO_COLOR is set or nobody looks."""
    return Console(highlight=False, markup=False, emoji=False, **options)
