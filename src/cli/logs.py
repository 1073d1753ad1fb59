"""Where log lines go, and how they look: for people, or one JSON object each.

All lines of the process, those of the access log too, go through one writer, so that they keep their order and
nobody waits for standard error.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO

from vastproxy.services.logfile import LogFile
from vastproxy.services.logwriter import CLOSE_LIMIT_S, LogWriter
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.load import effective_environ
from vastproxy.settings.logs import LoggingSettings
from vastproxy.settings.paths import expand_home

#: What the HTTP server says about answers that were cut on purpose. Our own access log has said it better.
_EXPECTED = ("ASGI callable returned without completing response.",)
_ABOVE_ALL = logging.CRITICAL + 1

Form = Literal["text", "json"]


def printable(text: str) -> str:
    r"""`text` without what acts on a terminal or ends a line: such characters become `\n`, `\x1b`, `\u2028` …"""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message"[, "exception"]}`, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        line = json.dumps(entry, ensure_ascii=False)
        return line if line.isprintable() else json.dumps(entry).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00 info    message`; what a rented machine sent cannot forge a second line.

    The lines of a traceback are indented: nothing but a log line begins at the first column.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return f"{record.asctime} {record.levelname.lower():7} {printable(record.message)}"

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(printable(line) for line in super().format(record).split("\n"))


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


class _Sink(Protocol):
    """Takes whole lines, each with its line end; an urgent one at once. A LogWriter is one."""

    def put(self, line: bytes, urgent: bool = False) -> None: ...
    def flush(self) -> object: ...
    def close(self, *, limit_s: float = CLOSE_LIMIT_S) -> object: ...


class _StreamSink:
    """A stream in memory, or one whose writer has ended: each line at once. A stream that fails loses lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def put(self, line: bytes, urgent: bool = False) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
            self._stream.write(line.decode())
            self._stream.flush()

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self, *, limit_s: float = CLOSE_LIMIT_S) -> None:
        """The stream is its owner's."""


class _Nowhere:
    """For a process without standard error."""

    def put(self, line: bytes, urgent: bool = False) -> None:
        """Forgets it."""

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self, *, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Nothing is open."""


class SinkHandler(logging.Handler):
    """Hands each record to a sink; warnings and worse are urgent. `logging` closes it at the process's end."""

    def __init__(self, sink: _Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self.sink = sink
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _encoded(self.format(record))
        except Exception:  # arguments that do not fit the message; a `__str__` that fails
            self.handleError(record)
        else:
            self.sink.put(line, record.levelno >= logging.WARNING)

    def handleError(self, record: logging.LogRecord) -> None:
        """Says so in the log; the base class prints to standard error, where one may have to wait."""
        values = (record.name, record.pathname, record.lineno)
        message = "a log line of %s (%s:%d) could not be written"
        complaint = logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, values, sys.exc_info())
        self.sink.put(_encoded(self.format(complaint)), True)

    def flush(self) -> None:
        self.sink.flush()

    def close(self) -> None:
        super().close()
        self.sink.close()


class Logs:
    """The process's logging, as `set_up_logging` has set it up. `close` it, or use it as a context manager.

    `access_sink` takes finished lines, with their line ends, and keeps their order among the others; `form` is how
    they are expected to look. Without `close`, the end of the process by an exception, `sys.exit` or returning from
    the main module writes what there is too.
    """

    def __init__(
        self, handler: SinkHandler, form: Form, late: _Sink, *, reopen: Callable[[], None] = lambda: None
    ) -> None:
        self._handler = handler
        self._late = late
        self.reopen = reopen
        """Open the log file anew before the next line, if there is one: somebody has moved it."""
        self.form = form
        self.access_sink: Callable[[bytes], None] = handler.sink.put

    def lead_to(self, descriptor: int) -> None:
        """From now on lines go to this descriptor – those that would go to the one of a stream. A file stays."""
        if isinstance(self._handler.sink, LogWriter):
            self._handler.sink.lead_to(descriptor)

    def close(self, *, limit_s: float = CLOSE_LIMIT_S) -> None:
        """Write what there is, within `limit_s` and the other limits of `LogWriter.close`. May be called again.

        Later lines are written by whoever logs them – unless the stream does not take any, which is no reason to wait
        for it then: they are lost.
        """
        if self._handler.sink.close(limit_s=limit_s) is not False:
            self._handler.sink = self._late

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def set_up_logging(settings: LoggingSettings, *, stream: TextIO | None = None) -> Logs:
    """Send all log lines of the process to the file of the settings, else to `stream` (standard error unless given).

    A file, and a stream with a descriptor, get them from a thread, in batches: nobody who logs waits for them. A stream
    in memory gets each line at once. A process without standard error logs nothing, unless to a file. Raises
    SettingsError when the file cannot be written.
    """
    stream = stream or sys.stderr
    if stream is None:
        _occupy_stderr()
    level = settings.level.upper()
    late = _Nowhere() if stream is None else _StreamSink(stream)
    is_terminal = settings.file is None and stream is not None and stream.isatty()
    form: Form = (
        "text" if settings.format == "text" or (settings.format == "auto" and is_terminal) else "json"
    )
    formatter = TextFormatter() if form == "text" else JsonFormatter()
    if settings.file is not None:
        file = _open_file(settings.file, settings)
        lost_line = functools.partial(_lost_line, formatter, str(settings.file))
        writer = LogWriter(file.write, release=file.close, lost_line=lost_line)
        return _install(SinkHandler(writer, formatter), form, late, level, reopen=file.reopen)
    if stream is None:
        return _install(SinkHandler(_Nowhere(), formatter), form, late, _ABOVE_ALL)
    return _install(SinkHandler(_open_sink(stream, formatter), formatter), form, late, level)


def set_level(settings: LoggingSettings) -> None:
    """Lines of this severity are written from now on."""
    logging.getLogger().setLevel(settings.level.upper())


def _open_file(name: str, settings: LoggingSettings) -> LogFile:
    path = expand_home(name, effective_environ())
    try:
        return LogFile(path, max_bytes=settings.max_bytes, keep=settings.keep)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SettingsError(
            f"logging.file: {printable(str(path))} cannot be written: {why.lower()}; create its directory, or "
            "name a file that this user may write"
        ) from None


def _install(
    handler: SinkHandler,
    form: Form,
    late: _Sink,
    level: str | int,
    *,
    reopen: Callable[[], None] = lambda: None,
) -> Logs:
    root = logging.getLogger()
    replaced, root.handlers[:] = root.handlers[:], [handler]
    for other in replaced:
        if isinstance(other, SinkHandler):
            other.close()
    root.setLevel(level)
    server = logging.getLogger("uvicorn.error")
    server.setLevel(logging.WARNING)
    server.filters[:] = [_is_news]
    for name in ("asyncssh", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Logs(handler, form, late, reopen=reopen)


def _is_news(record: logging.LogRecord) -> bool:
    if record.getMessage() in _EXPECTED:
        return False
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _lost_line(formatter: logging.Formatter, where: str, count: int) -> bytes:
    message = "%d log lines were lost here: they came faster than %s took them"
    record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (count, where), None)
    return _encoded(formatter.format(record))


def _open_sink(stream: TextIO, formatter: logging.Formatter) -> _Sink:
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both: a stream in memory
        return _StreamSink(stream)
    lost_line = functools.partial(_lost_line, formatter, "standard error")
    return LogWriter.to_descriptor(descriptor, lost_line=lost_line)


def _occupy_stderr() -> None:
    """A process that was started without standard error gets /dev/null there.

    Else the next socket would be descriptor 2, and C libraries would write their complaints to a client.
    """
    try:
        os.fstat(2)
    except OSError:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        if descriptor != 2:
            os.dup2(descriptor, 2)
            os.close(descriptor)
