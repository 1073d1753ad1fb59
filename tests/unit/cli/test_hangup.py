"""SIGHUP: the log is looked at again; but who was started in a terminal that has gone ends with it."""

import asyncio
import io
import logging
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from vastproxy.cli.hangup import Hangup, handled
from vastproxy.cli.logs import Logs, set_up_logging
from vastproxy.settings import SettingsError
from vastproxy.settings.logs import LoggingSettings

LIMIT_S = 10.0


class Reading:
    """Settings as they are read, one after another."""

    def __init__(self, *answers: LoggingSettings | SettingsError) -> None:
        self.answers = list(answers)

    def __call__(self) -> LoggingSettings:
        answer = self.answers.pop(0)
        if isinstance(answer, SettingsError):
            raise answer
        return answer


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logs(stream: io.StringIO) -> Iterator[Logs]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with set_up_logging(LoggingSettings(format="text", level="warning"), stream=stream) as logs:
        yield logs
    root.handlers[:] = handlers
    root.setLevel(level)


def never(descriptor: int) -> bool:
    return False


def forbidden() -> None:
    raise AssertionError("it was stopped")


def joined() -> None:
    """The thread that reads the settings has ended."""
    for thread in threading.enumerate():
        if thread.name == "hangup":
            thread.join(LIMIT_S)
            assert not thread.is_alive()


def test_the_level_is_read_again(logs: Logs, stream: io.StringIO) -> None:
    hangup = Hangup(logs, Reading(LoggingSettings(level="debug")), is_terminal=never)
    hangup.heard(forbidden)
    joined()
    assert logging.getLogger().level == logging.DEBUG
    assert "logging.level is debug" in stream.getvalue()


def test_settings_that_cannot_be_read_change_nothing(logs: Logs, stream: io.StringIO) -> None:
    hangup = Hangup(logs, Reading(SettingsError("logging.level: no")), is_terminal=never)
    hangup.heard(forbidden)
    joined()
    assert logging.getLogger().level == logging.WARNING
    assert stream.getvalue().count("\n") == 1
    assert "stays as it was: logging.level: no" in stream.getvalue()


def test_in_a_terminal_that_is_there_it_means_the_same(logs: Logs) -> None:
    """Somebody sent it by hand."""
    hangup = Hangup(logs, Reading(LoggingSettings(level="error")), is_terminal=lambda number: number == 2)
    hangup.heard(forbidden)
    joined()
    assert logging.getLogger().level == logging.ERROR


def test_with_its_terminal_it_ends(logs: Logs) -> None:
    there = True
    hangup = Hangup(logs, Reading(), is_terminal=lambda number: there and number == 2)
    there = False
    stopped: list[bool] = []
    hangup.heard(lambda: stopped.append(True))
    joined()
    assert stopped == [True]
    assert logging.getLogger().level == logging.WARNING


async def test_signals_are_handled_for_as_long_as_that_is_wanted() -> None:
    heard = asyncio.Event()
    before = signal.getsignal(signal.SIGUSR1)
    with handled({signal.SIGUSR1: heard.set, signal.SIGUSR2: None}):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(LIMIT_S):
            await heard.wait()
    assert signal.getsignal(signal.SIGUSR1) == before
