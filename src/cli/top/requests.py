"""The requests that run or wait, the newest first. Pure."""

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.values import Row, number, rows, text

#: Cells of all but the model and whose it is, with an id of ours; from `_WIDE` on, whose it is is told.
_OTHERS, _WHOSE, _WIDE = 50, 16, 80


def line(request: Row, width: int, look: Look, *, chosen: bool = False) -> Text:
    """How long it has run, where, for which model, whose it is, what was sent; then its id, or the end of that."""
    place = where(request)
    state = Text("waiting", style="yellow") if place is None else Text(f"#{place:.0f}", style="bold")
    model = text(request, "model").rpartition("/")[2] or look.dash
    whose = _WHOSE if width >= _WIDE else 0
    cells = min(max(width - _OTHERS - whose, 8), 30)
    shown = Text.assemble(
        f"{look.chosen} " if chosen else "  ",
        words.padded(Text(words.ms(number(request, "total_ms"), look)), 6, look, right=True),
        " ",
        words.padded(state, 11, look),
        words.padded(Text(model), cells, look),
        words.padded(Text(f" {_asker(request)}"), whose, look),
        words.padded(Text(_sent(request, look)), 8, look, right=True),
        "  ",
    )
    return words.padded(
        shown.append(_tail(text(request, "id"), width - shown.cell_len, look), "dim"), width, look
    )


def _asker(request: Row) -> str:
    """The name of its key, and whether it is one that gives way."""
    batch = "batch" if text(request, "priority") == "batch" else ""
    return " ".join(word for word in (text(request, "key"), batch) if word)


def _tail(id: str, width: int, look: Look) -> str:
    """The end of an id tells more than its beginning, which many have in common."""
    return id if len(id) <= width else look.more + id[len(id) - max(width - 1, 0) :]


def where(request: Row) -> float | None:
    """The instance that has it now; None while it waits."""
    attempts = rows(request, "attempts")
    if text(request, "state") == "waiting" or not attempts:
        return None
    return number(attempts[-1], "instance")


def searched(request: Row) -> str:
    """What a filter looks through."""
    named = (text(request, key) for key in ("id", "state", "model", "key", "priority", "path"))
    place = where(request)
    return " ".join((*named, "" if place is None else f"{place:.0f}"))


def _sent(request: Row, look: Look) -> str:
    """Bytes that the client was given so far."""
    sent = number(request, "sent_bytes")
    if sent is None:
        return look.dash
    if sent < 1000:
        return f"{sent:.0f}B"
    return f"{sent / 1000:.1f}k" if sent < 999_950 else f"{sent / 1_000_000:.1f}M"
