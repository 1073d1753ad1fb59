"""Runs the dashboard in this process's terminal, or prints it once."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable

from vastproxy.cli.consoles import plain_console
from vastproxy.cli.top import facts, table
from vastproxy.cli.top.app import TopApp
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.changes import in_letters
from vastproxy.cli.top.feed import Feed, News, Source
from vastproxy.cli.top.header import header
from vastproxy.cli.top.look import look_for
from vastproxy.cli.top.orders import Orders

#: What a pipe holds; lines of the log come in batches.
_READ_BYTES = 65_536


def attach(source: Source, *, ascii_only: bool) -> None:
    """Show a running proxy until somebody leaves. Raises NoProxyThere or NotTold when there is none to begin with."""
    overview = source.overview()
    board = Board(source.base)
    board.overview(overview)
    app = TopApp(board, Orders(source), look_for(ascii_only=ascii_only, encoding=sys.stdout.encoding))
    feed = Feed(source, app.hear)
    _run(app, feed)


def beside(source: Source, *, ascii_only: bool, log: int, parent: int) -> None:
    """Show the proxy that started us, whose log comes through the descriptor `log`, until somebody leaves or it ends.

    Ctrl-C is passed on to it as the signal that it would have been.
    """

    def interrupt() -> None:
        if os.getppid() == parent:
            os.kill(parent, signal.SIGINT)

    board = Board(source.base)
    look = look_for(ascii_only=ascii_only, encoding=sys.stdout.encoding)
    app = TopApp(board, Orders(source), look, interrupt=interrupt)

    def over() -> None:
        app.call_from_thread(app.exit)

    reader = threading.Thread(target=_read_log, args=(log, app.hear, over), name="top-log", daemon=True)
    signal.signal(signal.SIGTERM, lambda number, frame: app.exit())
    reader.start()
    _run(app, Feed(source, app.hear))


def _run(app: TopApp, feed: Feed) -> None:
    app.started = feed.start
    try:
        app.run()
    finally:
        feed.stop()
    if app.return_code:
        sys.exit(app.return_code)


def _read_log(log: int, tell: Callable[[News], object], over: Callable[[], object]) -> None:
    """Each line as it comes. The end of the pipe is the end of the proxy."""
    rest = b""
    while data := os.read(log, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        tell(News("logged", [line.decode("utf-8", "replace") for line in lines]))
    over()


def print_once(source: Source, *, ascii_only: bool) -> None:
    """Print what there is now. Raises NoProxyThere or NotTold."""
    board = Board(source.base, link="live")
    board.overview(source.overview())
    look = look_for(ascii_only=ascii_only, encoding=sys.stdout.encoding)
    width = shutil.get_terminal_size((120, 24)).columns
    backends = facts.arranged(board.backends, "id")
    lines = [*header(board, width, look, now=0.0), table.head(width, look, "")]
    console = plain_console(width=width)
    for line in (*lines, *table.lines(backends, width, look, chosen=None)):
        line.rstrip()
        if look.dash.isascii():
            line.plain = in_letters(line.plain)
        console.print(line, soft_wrap=True)
    if not backends:
        console.print(f"  {table.empty('', 0)}")
