"""How log lines look: for people, or one JSON object each."""

import asyncio
import json
import logging
import sys
from typing import Any, TextIO

from vastproxy.settings.model import LoggingSettings

#: What the HTTP server says about answers that were cut on purpose. Our own access log has said it better.
_EXPECTED = ("ASGI callable returned without completing response.",)


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
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00 info    message`; what a rented machine sent cannot forge a second line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def _is_news(record: logging.LogRecord) -> bool:
    if record.getMessage() in _EXPECTED:
        return False
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def set_up_logging(settings: LoggingSettings, *, stream: TextIO | None = None) -> None:
    """Send all log lines of the process to `stream` (standard error unless given)."""
    stream = stream or sys.stderr
    for_people = settings.format == "text" or (settings.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if for_people else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    server = logging.getLogger("uvicorn.error")
    server.setLevel(logging.WARNING)
    server.filters[:] = [_is_news]
    for name in ("asyncssh", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
