"""The settings of the log."""

from typing import Annotated, Literal

from pydantic import Field

from vastproxy.settings.section import Section


class LoggingSettings(Section):
    """What is written to standard error, or to a file. See docs/LOGS.md."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written. Read again on SIGHUP."""
    access: bool = True
    """Write one line about every request."""
    format: Literal["auto", "text", "json"] = "auto"
    """Lines for people (text), one JSON object per line (json), or whichever fits: text on a terminal (auto)."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Write to this file instead of standard error. Opened again on SIGHUP, and when somebody has moved or deleted
    it."""
    max_bytes: Annotated[int, Field(ge=0)] = 100 * 1024 * 1024
    """Largest size of the file. Before it would grow larger it is renamed to `.1`, the one before to `.2` and so on.
    0: leave that to logrotate."""
    keep: Annotated[int, Field(ge=0, le=1000)] = 5
    """Renamed files that are kept; the oldest one is deleted."""
