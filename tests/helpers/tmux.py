"""A program in a tmux window of its own, whose screen is read and whose keys are pressed.

with Tmux(tmp_path, size=(80, 24), env=env) as tmux:
    tmux.run("python", "-m", "vastproxy", "top")
    tmux.shows("healthy")
    tmux.presses("q")
    tmux.shows("ended with 0")
"""

import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.processes import ProcessFailed, wait_until

LIMIT_S = 60.0


class Tmux:
    """A tmux server of its own. On exit it has ended, with all that ran in it."""

    def __init__(self, directory: Path, *, size: tuple[int, int] = (80, 24), env: Mapping[str, str]) -> None:
        self._socket = directory / "tmux"
        self._directory = directory
        self._size = size
        self._env = {"LANG": "C.UTF-8", "TERM": "xterm-256color", **env}

    def run(self, *words: str | Path) -> None:
        """Run this in the window; its end, and whether the terminal is as a shell wants it, is shown."""
        command = " ".join(shlex.quote(str(word)) for word in words)
        script = f'{command}; echo "ended with $?"; stty -a | tr " ;" "\\n\\n" | grep isig; exec sleep 600'
        width, height = map(str, self._size)
        self._tmux("new-session", "-d", "-x", width, "-y", height, script)

    def presses(self, *keys: str) -> None:
        """By tmux's names: `q`, `Enter`, `C-c`, `Escape`."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *, with_colours: bool = False, history: bool = False) -> str:
        """What the window shows; `history`: and what was scrolled out of it, with lines that were broken made whole."""
        options = [*(["-e"] if with_colours else []), *(["-J", "-S", "-"] if history else [])]
        return self._tmux("capture-pane", "-p", *options)

    def pid(self) -> int:
        """Of what runs in the window: the shell around the program."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    def shows(self, text: str, *, limit_s: float = LIMIT_S) -> str:
        """Wait until the screen has this text; the screen then."""
        self.until(lambda: text in self.screen(history=True), repr(text), limit_s=limit_s)
        return self.screen()

    def until(self, condition: Callable[[], bool], what: str, *, limit_s: float = LIMIT_S) -> None:
        try:
            wait_until(condition, limit_s=limit_s, what=what)
        except ProcessFailed as error:
            raise ProcessFailed(f"{error}; the screen:\n{self.screen(history=True)}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run(self._words("kill-server"), capture_output=True, check=False, timeout=LIMIT_S)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            self._words(*words),
            env=self._env,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=LIMIT_S,
            text=True,
        )
        return done.stdout

    def _words(self, *words: str) -> list[str]:
        return ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
