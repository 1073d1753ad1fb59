"""Draws what the terminal shows into docs/images: runs the real commands and keeps their colours.

Usage: python scripts/screenshots.py DIRECTORY
"""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
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
    svg = console.export_svg(title="vastproxy", unique_id="vastproxy")
    return _FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    shown = record([str(Path(sys.executable).with_name("vastproxy")), "demo", "--once"])
    (folder / "demo.svg").write_text(draw(shown, "vastproxy demo"))


if __name__ == "__main__":
    main()
