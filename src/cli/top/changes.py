"""Which cells of a line have changed: over a slow connection only those are sent. Pure."""

from collections.abc import Sequence

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment

Cell = tuple[str, object]
_NOTHING: Cell = (" ", None)


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


def changed(before: Sequence[Segment], after: Sequence[Segment]) -> tuple[int, int] | None:
    """Where two lines differ: the first cell, and the one behind the last. None where they do not.

    One part of each line, for Textual sends every part from the beginning of the widget (Textual 8, `ChopsUpdate`).
    """
    old, new = cells(before), cells(after)
    width = max(len(old), len(new))
    old += [_NOTHING] * (width - len(old))
    new += [_NOTHING] * (width - len(new))
    differing = [at for at in range(width) if old[at] != new[at]]
    if not differing:
        return None
    start, end = differing[0], differing[-1] + 1
    # No half of a wide sign is drawn alone.
    while start > 0 and "" in (old[start][0], new[start][0]):
        start -= 1
    while end < width and "" in (old[end][0], new[end][0]):
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
