"""How a doctor's findings look: lines for people as they come, or one JSON document at the end."""

import json
import re
import shutil
import textwrap
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from vastproxy import __version__
from vastproxy.cli.render import clean, duration
from vastproxy.services.diagnosis.check import Check, Verdict, exit_code, summary

#: The words stand for the colours where there are none.
WORDS = {
    Verdict.OK: ("ok", "green"),
    Verdict.WARN: ("warn", "yellow"),
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.SKIP: ("skip", "dim"),
}
_WORD_CHARS, _TITLE_CHARS = 6, 16
_INDENT = _WORD_CHARS + _TITLE_CHARS
_DO = "do: "
_COMMAND = re.compile(r"`[^`]+`")


class View:
    """Collects the checks. Where a person looks, each is shown at once, with a spinner while one waits."""

    def __init__(self, console: Console | None) -> None:
        """`console`: None where nothing is to be shown before the end."""
        self.checks: list[Check] = []
        self._console = console
        self._status: Status | None = None
        self._shown: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress(None)

    def progress(self, text: str | None) -> None:
        """What is waited for now; None: nothing. Only a terminal shows it."""
        if self._console is None or not self._console.is_terminal:
            return
        if text is None:
            if self._status is not None:
                self._status.stop()
                self._status = None
        elif self._status is None:
            self._status = self._console.status(Text(text))  # rich would read a str as markup
            self._status.start()
        else:
            self._status.update(Text(text))

    def tell(self, *checks: Check) -> None:
        """More findings."""
        self.checks += checks
        if self._console is None:
            return
        for check in checks:
            if check.instance != self._shown:
                self._shown = check.instance
                about = "the proxy" if check.instance is None else f"instance {check.instance}"
                self._console.print(Text(about, style="bold"), soft_wrap=True)
            for line in lines(check, _width(self._console)):
                self._console.print(line, soft_wrap=True)


def _width(console: Console) -> int | None:
    """Where to break lines; None in a pipe, so that a command to copy stays in one piece."""
    return shutil.get_terminal_size().columns if console.is_terminal else None


def lines(check: Check, width: int | None) -> list[Text]:
    """One finding for people, within `width` columns if given. The fix of what is not good stands below it."""
    word, style = WORDS[check.verdict]
    first, *more = _folded(clean(check.detail), width)
    title = clean(check.title).ljust(_TITLE_CHARS)
    found = [Text.assemble((word.ljust(_WORD_CHARS), style), title, first)]
    found += [Text(" " * _INDENT + line) for line in more]
    if check.fix and check.verdict in (Verdict.WARN, Verdict.FAIL):
        first, *more = _folded(_DO + clean(check.fix), width)
        found.append(Text.assemble(" " * _INDENT, (first, style)))
        found += [Text(" " * (_INDENT + len(_DO)) + line, style=style) for line in more]
    return found


def _folded(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    room = max(width - _INDENT - len(_DO), 20)
    # A command that fits a line is not broken, so that it can be copied.
    held = _COMMAND.sub(
        lambda found: found[0].replace(" ", "\0") if len(found[0]) <= room else found[0], text
    )
    folded = textwrap.wrap(held, room, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in folded] or [""]


def verdict(checks: Sequence[Check]) -> str:
    """The last line."""
    counts = {one: sum(check.verdict is one for check in checks) for one in Verdict}
    if not counts[Verdict.FAIL] and not counts[Verdict.WARN]:
        return f"all good: {counts[Verdict.OK]} checks"
    told = [
        f"{count} {name}{'s' * (count > 1)}"
        for count, name in ((counts[Verdict.FAIL], "failure"), (counts[Verdict.WARN], "warning"))
        if count
    ]
    return f"{' and '.join(told)} among {len(checks)} checks; docs/RUNBOOK.md has each of them"


def _place(check: Check) -> tuple[int, int]:
    """The account, the instances by id, the proxy."""
    if check.instance is not None:
        return 1, check.instance
    return (2 if check.id.startswith("proxy") else 0), 0


def document(checks: Sequence[Check], took_s: float) -> dict[str, Any]:
    """All of it for programs."""
    return {
        "version": __version__,
        "verdict": summary(checks).value,
        "exit_code": exit_code(checks),
        "took_s": round(took_s, 3),
        "checks": [check.to_json() for check in sorted(checks, key=_place)],
    }


def conclude(view: View, console: Console | None, took_s: float) -> None:
    """What comes at the end: a line for people, or the whole for programs."""
    if console is None:
        typer.echo(json.dumps(document(view.checks, took_s), indent=2))
        return
    _, style = WORDS[summary(view.checks)]
    after = f" ({duration(took_s)})" if took_s >= 1 else ""
    console.print(Text(verdict(view.checks) + after, style=style), soft_wrap=True)
