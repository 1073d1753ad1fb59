"""What every command has in common: help that teaches, JSON for programs, tables that fit, colour only if wanted."""

import inspect
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from scripts.cli_document import commands
from tests.unit.cli.conftest import Answers, Peer, Run
from tests.unit.cli.test_status import BACKEND, LAME, healthz, proxy
from vastproxy.cli.progress import waiting

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
    "doctor",
    "logs",
    "requests",
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


#: Names and models as long as they come.
LONG = {
    **BACKEND,
    "id": 48001001,
    "state": "connecting",
    "num_gpus": 8,
    "gpu_name": "RTX PRO 6000 WS",
    "models": ["meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "a" * 96],
    "paths": [{"path": "direct", "state": "up"}, {"path": "relay", "state": "doubted"}],
    "in_flight": 12345,
    "failures": 12345,
    "error": "no tunnel: " + "x" * 300,
}


def test_the_backends_fit_80_columns(run: Run, peer: Callable[[Answers], Peer]) -> None:
    result = run("status", peer(proxy(healthz(), LONG, LAME)).url)
    rows = result.output.partition("ID ")[2].splitlines()
    assert max(map(len, rows)) <= 80


def test_the_keys_fit_80_columns(run: Run) -> None:
    limits = ("--rpm", "600", "--tpm", "1000000", "--concurrent", "50", "--model", "meta-llama/Llama-4-*")
    made = run("keys", "create", "a-name-of-some-length", *limits, "--priority", "batch", "--expires", "30d")
    assert made.exit_code == 0, made.output
    lines = run("keys", "list").output.splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("words", ["", *COMMANDS])
def test_help_fits_100_columns(words: str, run: Run) -> None:
    shown = run(*words.split()[1:], "--help", COLUMNS="100")
    assert max(map(len, shown.output.splitlines())) <= 100


def test_a_sign_of_life_on_a_terminal_alone() -> None:
    for is_terminal in (True, False):
        out = io.StringIO()
        with waiting("asking vast.ai", console=Console(file=out, force_terminal=is_terminal, width=80)):
            pass
        assert ("asking vast.ai" in out.getvalue()) is is_terminal
