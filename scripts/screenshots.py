"""Draws what the terminal shows into docs/images: runs the real commands and keeps their colours.

Usage: python scripts/screenshots.py DIRECTORY
"""

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vastproxy.cli.demo import free_address
from vastproxy.cli.top.app import TopApp
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.feed import Feed, Source
from vastproxy.cli.top.look import SIGNS
from vastproxy.cli.top.orders import Orders

COLUMNS = 100
#: The dashboard's terminal: room for a card of each of its instances.
TOP_SIZE, TOP_INSTANCES, TOP_CLIENTS = (120, 36), 6, 8
#: How long the dashboard looks on before its picture is taken, once all instances serve: rates are means of 10 s.
TOP_LOOKS_S, TOP_LIMIT_S = 12.0, 60.0
#: rich's picture fetches its font from the network; every machine has a monospaced one.
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def record(command: list[str]) -> str:
    """What the command writes to a terminal of COLUMNS columns. Raises CalledProcessError when it fails."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    pieces: list[bytes] = []
    try:
        while piece := os.read(leader, 65536):
            pieces.append(piece)
    except OSError:
        pass  # the terminal's other end is closed: the command has ended
    finally:
        os.close(leader)
    if status := process.wait():
        raise subprocess.CalledProcessError(status, command, b"".join(pieces))
    return settled(b"".join(pieces).decode("utf-8", "replace").replace("\r\n", "\n"))


def settled(text: str) -> str:
    """What stays on the terminal: lines that were erased again, such as a spinner's, are gone."""
    lines: list[str] = [""]
    for piece in re.split(r"(\n|\r?\x1b\[2K|\x1b\[1A)", text):
        if piece == "\n":
            lines.append("")
        elif piece.endswith("\x1b[2K"):
            lines[-1] = ""
        elif piece == "\x1b[1A":
            lines.pop()
        else:
            lines[-1] += piece
    return "\n".join(lines)


def draw(text: str, title: str) -> str:
    """An SVG of a terminal that shows `text`."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(f"$ {title}\n{text.rstrip()}"))
    return with_own_fonts(console.export_svg(title="vastproxy", unique_id="vastproxy"))


def with_own_fonts(svg: str) -> str:
    """Nothing is fetched to show the picture."""
    return _FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def dashboard(program: str) -> str:
    """An SVG of the dashboard of a busy demo."""
    address = free_address()
    words = [program, "demo", "--no-tui", "--listen", address]
    words += ["--instances", str(TOP_INSTANCES), "--clients", str(TOP_CLIENTS)]
    demo = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        return asyncio.run(_watch(Source(f"http://{address}")))
    finally:
        demo.terminate()
        demo.wait()


async def _watch(source: Source) -> str:
    board = Board(source.base)
    app = TopApp(board, Orders(source), SIGNS)
    feed = Feed(source, app.hear)
    app.started = feed.start
    async with app.run_test(size=TOP_SIZE) as pilot, asyncio.timeout(TOP_LIMIT_S):
        while sum(row.get("state") == "healthy" for row in board.backends) < TOP_INSTANCES:
            await pilot.pause(0.1)
        await pilot.pause(TOP_LOOKS_S)
        svg = app.export_screenshot(title="vastproxy top")
    feed.stop()
    number = re.search(r"terminal-(\d+)-matrix", svg)
    return with_own_fonts(svg.replace(number[0].removesuffix("-matrix"), "vastproxy") if number else svg)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    program = str(Path(sys.executable).with_name("vastproxy"))
    (folder / "demo.svg").write_text(draw(record([program, "demo", "--once"]), "vastproxy demo"))
    (folder / "top.svg").write_text(dashboard(program))


if __name__ == "__main__":
    main()
