"""Who is asked for a passphrase."""

import io
import sys

import pytest

from vastproxy.services.tunnels.passphrase import terminal_prompt


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdin", "stderr"),
    [(io.StringIO(), Terminal()), (Terminal(), io.StringIO()), (io.StringIO(), io.StringIO())],
)
def test_nobody_is_asked_without_a_terminal(stdin: io.StringIO, stderr: io.StringIO) -> None:
    assert terminal_prompt(stdin, stderr) is None


def test_under_a_test_runner_nobody_is_asked() -> None:
    assert sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty()
    assert terminal_prompt() is None


def test_at_a_terminal_there_is_somebody_to_ask() -> None:
    assert terminal_prompt(Terminal(), Terminal()) is not None
