"""What pages say is typed or run, taken out of them: commands of a terminal, and programs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TRIED = re.compile(r"(?ms)^<!-- tried -->\n```console\n(.*?)^```")
_PROGRAM = re.compile(
    r"(?ms)(?:^ *<!-- no-run: (?P<why>[^\n]*) -->\n)?^(?P<indent> *)```python *\n(?P<text>.*?)^ *```$"
)


def typed(page: str) -> list[str]:
    """The commands in the blocks that are marked as tried, in their order."""
    blocks = _TRIED.findall(page)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def quoted(text: str) -> str:
    """As one word for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def shown_script(commands: Sequence[str]) -> str:
    """One script that types them and stops at the first that fails. Each is shown before what it writes."""
    lines = ["set -eu -o pipefail"]
    for command in commands:
        lines += [f"printf '%s\\n' {quoted('$ ' + command)}", command]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A program in a page. `no_run`: why it is not run, None where it is."""

    page: Path
    number: int
    text: str
    no_run: str | None

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"


def snippets(page: Path) -> Iterator[Snippet]:
    """The Python blocks of a page. One that cannot run stands behind `<!-- no-run: reason -->`."""
    for number, found in enumerate(_PROGRAM.finditer(page.read_text()), start=1):
        indent = found["indent"]
        lines = [line.removeprefix(indent) for line in found["text"].splitlines()]
        yield Snippet(page, number, "\n".join(lines) + "\n", found["why"])
