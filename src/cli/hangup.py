"""Signals: what ends the server, and SIGHUP, on which it opens its log file anew and reads the level of its log
again."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping

from vastproxy.cli.logs import Logs, set_level
from vastproxy.settings import SettingsError
from vastproxy.settings.logs import LoggingSettings

logger = logging.getLogger(__name__)


class Hangup:
    """What is done on SIGHUP. `read` reads the settings again; it is called in a thread, for it reads files."""

    def __init__(self, logs: Logs, read: Callable[[], LoggingSettings]) -> None:
        self._logs = logs
        self._read = read
        self._turn = threading.Lock()

    def __call__(self) -> None:
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
