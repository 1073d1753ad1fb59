"""The requests that run or wait, the newest first. Pure."""

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.values import Row, number, rows, text


def line(request: Row, width: int, look: Look, *, chosen: bool = False) -> Text:
    """`4.2s #48001001 Qwen3-8B web 12.4k out`; the id of the request stands last, as the longest."""
    place = where(request)
    state = Text("waiting", style="yellow") if place is None else Text(f"#{place:.0f}", style="bold")
    model = text(request, "model").rpartition("/")[2] or look.dash
    model_cells = min(max(width - 48, 10), 24)
    shown = Text.assemble(
        f"{look.chosen} " if chosen else "  ",
        words.padded(Text(words.ms(number(request, "total_ms"), look)), 6, look, right=True),
        " ",
        words.padded(state, 10, look),
        " ",
        words.padded(Text(model), model_cells, look),
        " ",
        words.padded(
            Text(text(request, "key") or text(request, "priority") or look.dash, style="dim"), 11, look
        ),
        " ",
        words.padded(Text(_sent(request, look)), 6, look, right=True),
        "  ",
        (text(request, "id"), "dim"),
    )
    return words.padded(shown, width, look)


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
