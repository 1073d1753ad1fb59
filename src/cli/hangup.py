"""Signals: what ends the server, and SIGHUP, which has two meanings.

Sent by an operator it says: open the log file anew, and read the level of the log again. Sent by the system it says
that the terminal has gone; a server that somebody started there shall not go on unseen.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping

from vastproxy.cli.logs import Logs, set_level
from vastproxy.settings import SettingsError
from vastproxy.settings.logs import LoggingSettings

logger = logging.getLogger(__name__)


#: Standard input, output and error.
_STANDARD = (0, 1, 2)


class Hangup:
    """What is done on SIGHUP. Make it at the start, while the terminal is there, if there is one.

    `read` reads the settings again; it is called in a thread, for it reads files. `is_terminal` tells of a descriptor.
    """

    def __init__(
        self,
        logs: Logs,
        read: Callable[[], LoggingSettings],
        *,
        is_terminal: Callable[[int], bool] = os.isatty,
    ) -> None:
        self._logs = logs
        self._read = read
        self._is_terminal = is_terminal
        self._terminals = [number for number in _STANDARD if is_terminal(number)]
        self._turn = threading.Lock()

    def heard(self, stop: Callable[[], None]) -> None:
        """SIGHUP has come. `stop` is called if the terminal has gone."""
        if self._terminals and not any(map(self._is_terminal, self._terminals)):
            logger.info("the terminal has gone")
            stop()
            return
        self._logs.reopen()
        threading.Thread(target=self._follow, name="hangup", daemon=True).start()

    def _follow(self) -> None:
        with self._turn:  # of two in a row, the settings that were read last are in force
            try:
                settings = self._read()
            except SettingsError as error:
                logger.warning("SIGHUP: the log's level stays as it was: %s", error)
                return
            set_level(settings)
            logger.info("SIGHUP: log files are opened again; logging.level is %s", settings.level)


@contextlib.contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[], None] | None]) -> Iterator[None]:
    """The running loop calls these when it is sent these signals. Where signals cannot be had – in other threads than
    the main one, or without POSIX – nothing is changed."""
    loop, taken = asyncio.get_running_loop(), []
    with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
        for number, handler in handlers.items():
            if handler is not None:
                loop.add_signal_handler(number, handler)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
