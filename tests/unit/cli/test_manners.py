"""What every command has in common: help that teaches, JSON for programs, tables that fit, colour only if wanted."""

import inspect

import pytest

from scripts.cli_document import commands
from tests.unit.cli.conftest import Run

COMMANDS = dict(commands())
#: Commands that read and answer. Others order something, or are there for a person alone.
READING = (
    "status",
    "explain",
    "instances",
    "keys list",
    "config show",
    "config check",
    "webhooks list",
)


@pytest.mark.parametrize("words", COMMANDS)
def test_the_help_of_every_command_teaches_by_example(words: str, run: Run) -> None:
    """Each has an example that begins with the command itself, and it is shown on 80 columns as it is typed."""
    text = inspect.cleandoc(COMMANDS[words].help or "")
    head, _, examples = text.partition("Example")
    assert examples, f"`{words} --help` has no example"
    assert head.strip(), f"`{words} --help` does not say what it does"
    assert words in examples
    shown = run(*words.split()[1:], "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output


@pytest.mark.parametrize("words", READING)
def test_every_command_that_reads_has_json(words: str) -> None:
    options = {name for one in COMMANDS[f"vastproxy {words}"].params for name in one.opts}
    assert "--json" in options


@pytest.mark.parametrize("words", COMMANDS)
def test_every_option_says_what_it_is_for(words: str) -> None:
    for parameter in COMMANDS[words].params:
        assert getattr(parameter, "help", None), f"{words}: {parameter.name}"
