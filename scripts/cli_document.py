"""Writes what can be typed into docs/CLI.md: every command, argument and option, as the program itself tells them.

    python scripts/cli_document.py docs/CLI.md

Only what is between the markers is written; the rest of the page is by hand.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup

from vastproxy.cli.main import app

BEGIN, END = "<!-- commands: begin (made by `make docs`) -->", "<!-- commands: end -->"


def commands(
    group: TyperGroup | None = None, words: tuple[str, ...] = ("vastproxy",)
) -> Iterator[tuple[str, TyperCommand]]:
    """Every command that does something, by what is typed for it, in the order of the help."""
    if group is None:
        found = typer.main.get_command(app)
        assert isinstance(found, TyperGroup)
        group = found
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*words, name))
        else:
            assert isinstance(command, TyperCommand)
            yield " ".join((*words, name)), command


def options_of(command: TyperCommand) -> Iterator[tuple[str, str]]:
    """Each argument and option of a command as it is typed, and what it is for."""
    context = typer.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            yield record[0], record[1]
        elif isinstance(parameter, TyperArgument):
            described: Any = parameter  # typed in some versions of typer, and not in others
            yield described.make_metavar(context), ""


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def section(words: str, command: TyperCommand) -> str:
    """One command as a section of the page."""
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    text, _, examples = re.sub(r"(?m)^Example:$", "Examples:", text).partition("Examples:")
    lines = [f"### {words}", "", text.strip()]
    rows = [f"| `{_escaped(name)}` | {_escaped(told)} |" for name, told in options_of(command)]
    if rows:
        lines += ["", "| | |", "|---|---|", *rows]
    shown = [line.strip() for line in examples.splitlines() if line.strip()]
    if shown:
        lines += ["", "```console", *(f"$ {line}" for line in shown), "```"]
    return "\n".join(lines)


def with_commands(text: str) -> str:
    """The page with all commands between the markers. Raises ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the markers {BEGIN!r} and {END!r}")
    told = "\n\n".join(section(words, command) for words, command in commands())
    return f"{before}{BEGIN}\n\n{told}\n\n{END}{after}"


def main() -> None:
    """Rewrite the page named on the command line."""
    page = Path(sys.argv[1])
    page.write_text(with_commands(page.read_text()))


if __name__ == "__main__":
    main()
