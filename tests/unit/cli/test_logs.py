"""How log lines look, and that all of them take one way."""

import asyncio
import contextlib
import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from vastproxy.cli.logs import Logs, SinkHandler, TextFormatter, printable, set_up_logging
from vastproxy.settings.logs import LoggingSettings

logger = logging.getLogger("vastproxy.test_logs")
TEXT = LoggingSettings(format="text")
JSON = LoggingSettings(format="json")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    named = [logging.getLogger(name) for name in (None, "uvicorn.error", "asyncssh", "urllib3")]
    before = [(each, each.handlers[:], each.filters[:], each.level) for each in named]
    yield
    for handler in logging.getLogger().handlers:
        if isinstance(handler, SinkHandler):
            handler.close()
    for each, handlers, filters, level in before:
        each.handlers[:], each.filters[:] = handlers, filters
        each.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(settings: LoggingSettings, *values: object, message: str = "%s") -> str:
    """The lines that an info line with these arguments becomes."""
    stream = io.StringIO()
    with set_up_logging(settings, stream=stream):
        logger.info(message, *values)
    return stream.getvalue()


# -- how lines look ------------------------------------------------------------------------------------


def test_a_line_for_people_begins_with_time_and_level() -> None:
    stream = io.StringIO()
    set_up_logging(TEXT, stream=stream)
    logger.info("listening")
    logger.warning("full")
    lines = stream.getvalue().splitlines()
    assert [line[19:] for line in lines] == [" info    listening", " warning full"]
    assert [line[4] + line[13] for line in lines] == ["-:", "-:"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x85", "\u2028", "\x0b", "\x1b[2K\r"])
def test_nothing_in_a_message_begins_a_line_or_acts_on_a_terminal(end: str) -> None:
    for settings in (TEXT, JSON):
        line = logged(settings, f"a{end}2026-01-31 12:00:00 info    forged")
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert line.count("forged") == 1


def test_what_is_not_printable_can_still_be_read() -> None:
    assert printable("→ ä 漢") == "→ ä 漢"
    assert printable("a\tb\x1b\u2028\udc80") == r"a\tb\x1b\u2028\udc80"


def test_the_lines_of_a_traceback_are_indented() -> None:
    """So that the text of an exception cannot forge a line either."""
    stream = io.StringIO()
    set_up_logging(TEXT, stream=stream)
    try:
        raise ValueError("no\n2026-01-31 12:00:00 info    forged\x1b[2J")
    except ValueError:
        logger.exception("it failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith(" error   it failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == r"    2026-01-31 12:00:00 info    forged\x1b[2J"


def test_a_line_for_programs_is_one_object() -> None:
    stream = io.StringIO()
    set_up_logging(JSON, stream=stream)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it → %s", "failed\nbadly\x7f\udc80")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert set(entry) == {"time", "level", "logger", "message", "exception"}
    assert entry["level"] == "error"
    assert entry["logger"] == "vastproxy.test_logs"
    assert entry["message"] == "it → failed\nbadly\x7f\udc80"
    assert entry["exception"].startswith("Traceback")


def test_a_terminal_gets_text_and_anything_else_json() -> None:
    for stream, form in ((Terminal(), "text"), (io.StringIO(), "json")):
        with set_up_logging(LoggingSettings(), stream=stream) as logs:
            assert logs.form == form
            logger.info("hello")
        assert stream.getvalue().startswith("{") == (form == "json")


def test_formatting_leaves_the_record_as_it_is_for_other_handlers() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "m", (), None)
    TextFormatter().format(record)
    assert record.levelname == "INFO"


def test_less_severe_lines_than_asked_for_are_not_written() -> None:
    assert logged(LoggingSettings(level="warning", format="text"), "x") == ""
    assert logged(LoggingSettings(level="info", format="text"), "x") != ""


def test_a_line_that_cannot_be_made_is_reported_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Not on standard error behind the log's back, where the process might have to wait."""

    class Broken:
        def __str__(self) -> str:
            raise ValueError("no text")

    assert "a log line of vastproxy.test_logs" in logged(TEXT, 1, 2, message="only %d")
    assert "no text" in logged(TEXT, Broken())
    assert "could not be written" in json.loads(logged(JSON, Broken()))["message"]
    assert capsys.readouterr().err == ""


def test_what_the_http_server_says_about_answers_cut_on_purpose_is_no_news() -> None:
    stream = io.StringIO()
    set_up_logging(TEXT, stream=stream)
    server = logging.getLogger("uvicorn.error")
    server.info("Started")
    server.error("ASGI callable returned without completing response.")
    server.error("Exception in ASGI application", exc_info=asyncio.CancelledError())
    server.error("something else")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("something else")


# -- where they go -------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_log(path: Path, format: Literal["text", "json"] = "text") -> Iterator[Logs]:
    with path.open("w") as stream:
        logs = set_up_logging(LoggingSettings(format=format), stream=stream)
        try:
            yield logs
        finally:
            logs.close()


def test_lines_of_the_access_log_keep_their_place_among_the_others(tmp_path: Path) -> None:
    with file_log(tmp_path / "log") as logs:
        for number in range(500):
            logger.info("%d", 2 * number)
            logs.access_sink(b"access %d\n" % (2 * number + 1))
    lines = (tmp_path / "log").read_text().splitlines()
    assert [int(line.split()[-1]) for line in lines] == list(range(1000))


def test_a_warning_is_written_without_waiting_for_anything(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream, set_up_logging(TEXT, stream=stream):
        logger.info("first")
        logger.warning("second")
        assert reader.readline().endswith("first\n")
        assert reader.readline().endswith("second\n")


def test_other_threads_log_too(tmp_path: Path) -> None:
    with file_log(tmp_path / "log"):
        threads = [threading.Thread(target=logger.info, args=("from %d", number)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(line.split(" from ")[1] for line in lines) == list("01234")


def test_after_close_lines_are_written_by_whoever_logs(tmp_path: Path) -> None:
    """The last words of a process, after its event loop has ended."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        logs = set_up_logging(TEXT, stream=stream)
        logger.info("before")
        logs.close()
        logger.info("after")
        logs.close()
        assert [line.split()[-1] for line in path.read_text().splitlines()] == ["before", "after"]


def test_setting_up_again_ends_what_was_set_up_before(tmp_path: Path) -> None:
    threads = threading.active_count()
    stream = io.StringIO()
    with file_log(tmp_path / "log"):
        logger.info("old")
        set_up_logging(TEXT, stream=stream)
        logger.info("new")
        assert threading.active_count() == threads
    assert (tmp_path / "log").read_text().endswith("old\n")
    assert stream.getvalue().endswith("new\n")


def test_the_end_of_logging_writes_what_there_is(tmp_path: Path) -> None:
    """As `logging.shutdown` does at the process's end, whatever ended it."""
    with (tmp_path / "log").open("w") as stream:
        set_up_logging(TEXT, stream=stream)
        logger.info("last")
        (handler,) = logging.getLogger().handlers
        handler.flush()
        assert (tmp_path / "log").read_text().endswith("last\n")
        handler.close()


def test_a_full_pipe_holds_nobody_up_and_lost_lines_are_told() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        logs = set_up_logging(TEXT, stream=stream)
        for number in range(120):
            logger.info("%d %s", number, "x" * 100_000)
        received = b""
        while b"lost" not in received or not received.endswith(b"\n"):
            received += os.read(reader.fileno(), 1 << 20)
        assert b" warning " in received.splitlines()[-1]
        lost = int(received.splitlines()[-1].split(b" log lines were lost")[0].split()[-1])
        assert received.count(b"\n") == 120 - lost + 1
        logs.close()


def test_a_full_pipe_does_not_hold_up_the_end() -> None:
    """What was logged is lost then, and so is what comes later: nobody tries to write it."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stream:
        os.set_blocking(writing, False)
        logs = set_up_logging(TEXT, stream=stream)
        logger.info("x" * 1_000_000)
        logs.close(limit_s=0.1)
        logger.error("too late")
        os.set_blocking(reader.fileno(), False)
        assert b"too late" not in (reader.read() or b"")


def test_a_stream_that_was_closed_loses_lines_and_fails_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    set_up_logging(TEXT, stream=stream)
    stream.close()
    logger.error("nobody hears this")
    assert capsys.readouterr().err == ""


def test_a_process_without_standard_error_logs_nothing() -> None:
    with contextlib.redirect_stderr(None), set_up_logging(LoggingSettings(level="debug")) as logs:
        assert not logger.isEnabledFor(logging.CRITICAL)
        logging.getLogger("uvicorn.error").error("nobody hears this")
        logs.access_sink(b"nor this\n")
