"""Which cells of a line have changed: over a slow connection only those are sent. Pure."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment

#: Cells between two changes that are sent along: moving the cursor takes as many bytes.
NEAR = 6

Cell = tuple[str, object]


def cells(segments: Sequence[Segment]) -> list[Cell]:
    """Each cell with its style; the second one of a wide sign is empty."""
    found: list[Cell] = []
    for text, style, control in segments:
        if control:
            continue
        for character in text:
            width = get_character_cell_size(character)
            if width == 0 and found:  # belongs to the one before
                found[-1] = (found[-1][0] + character, style)
                continue
            found.append((character, style))
            found.extend(("", style) for _ in range(width - 1))
    return found


def changed(before: Sequence[Segment], after: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """Where two lines differ: first cell, and the one behind the last."""
    old, new = cells(before), cells(after)
    start = end = -1
    for at in range(max(len(old), len(new))):
        if at < len(old) and at < len(new) and old[at] == new[at]:
            continue
        if start >= 0 and at - end >= NEAR:
            yield _whole(old, new, start, end)
            start = -1
        start = at if start < 0 else start
        end = at + 1
    if start >= 0:
        yield _whole(old, new, start, end)


def _whole(old: Sequence[Cell], new: Sequence[Cell], start: int, end: int) -> tuple[int, int]:
    """No half of a wide sign is drawn alone."""
    while start > 0 and any(start < len(line) and line[start][0] == "" for line in (old, new)):
        start -= 1
    while any(end < len(line) and line[end][0] == "" for line in (old, new)):
        end += 1
    return start, end


def in_letters(text: str) -> str:
    """Only ASCII, in as many cells."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else _LETTERS.get(c, "?" * cell_len(c)) for c in text)


_LETTERS = {
    "→": ">",
    "–": "-",
    "—": "-",
    "…": "~",
    "“": '"',
    "”": '"',
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{MULTIPLICATION SIGN}": "x",
    "·": "-",
    "µ": "u",
    "ä": "a",
    "ö": "o",
    "ü": "u",
}
