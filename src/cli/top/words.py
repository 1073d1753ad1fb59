"""Figures as people read them, in few characters. What is not known is the dash of the look. Pure."""

from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from vastproxy.cli.top.look import Look

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def span(seconds: float | None, look: Look) -> str:
    """A length of time in its largest unit: `45s`, `12m`, `3h`, `9d`."""
    if seconds is None:
        return look.dash
    left = max(int(seconds), 0)
    for unit, size in _UNITS:
        if left >= size or size == 1:
            return f"{left // size}{unit}"
    raise AssertionError("a second is the least")


def long_span(seconds: float | None, look: Look) -> str:
    """A length of time in its two largest units: `3 h 12 min`."""
    if seconds is None:
        return look.dash
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (size == 1 and not parts):
            parts.append(f"{count} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def rate(value: float | None, look: Look) -> str:
    """Something per second: `0`, `0.3`, `12.4`, `340`, `12.4k`."""
    if value is None:
        return look.dash
    if value >= 9_999.5:
        return f"{value / 1000:.1f}k" if value < 999_500 else f"{value / 1_000_000:.1f}M"
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.05 else "0"


def whole(value: float | None, look: Look) -> str:
    """A number of things: `0`, `340`, `12,400`, `1.2M`."""
    if value is None:
        return look.dash
    return f"{value:,.0f}" if abs(value) < 999_999.5 else f"{value / 1_000_000:,.1f}M"


def dollars(value: float | None, look: Look) -> str:
    """Money: `$0.043`, `$1.92`, `$1,204`."""
    if value is None:
        return look.dash
    digits = 0 if abs(value) >= 999.5 else 3 if abs(value) < 0.1 and value else 2
    return f"{'-' if value < 0 else ''}${abs(value):,.{digits}f}"


def percent(value: float | None, look: Look) -> str:
    """`value`: 0 to 100."""
    return look.dash if value is None else f"{value:.0f}%"


def heat(value: float | None, look: Look) -> str:
    """Degrees Celsius."""
    return look.dash if value is None else f"{value:.0f}{look.degree}"


def watts(value: float | None, look: Look) -> str:
    """Power: `312W`."""
    return look.dash if value is None else f"{value:.0f}W"


def memory(used_mib: float | None, total_mib: float | None, look: Look) -> str:
    """`18.2/24G`: GiB used, of how many."""
    if used_mib is None and total_mib is None:
        return look.dash
    used = look.dash if used_mib is None else f"{used_mib / 1024:.{1 if used_mib < 102_400 else 0}f}"
    return used if total_mib is None else f"{used}/{total_mib / 1024:.0f}G"


def ms(value: float | None, look: Look) -> str:
    """A time of milliseconds: `84ms`, `3.1s`."""
    if value is None:
        return look.dash
    return f"{value:.0f}ms" if value < 999.5 else f"{value / 1000:.1f}s"


def clock(unix: float | None, look: Look) -> str:
    """The time of day here."""
    if unix is None or not 0 <= unix < 1e11:
        return look.dash
    return f"{datetime.fromtimestamp(unix).astimezone():%H:%M:%S}"


def bar(value: float | None, width: int, look: Look) -> Text:
    """So much of a bar is full; `value`: 0 to 100."""
    full, half, empty = look.bar
    if value is None:
        return Text(empty * width, style="dim")
    halves = round(min(max(value, 0.0), 100.0) / 100 * width * 2)
    drawn = full * (halves // 2) + half * (halves % 2)
    return Text.assemble((drawn, "green"), (empty * (width - len(drawn)), "dim"))


def cut(value: str, width: int, look: Look) -> str:
    """The text in at most so many cells, the end left out if need be."""
    if cell_len(value) <= width:
        return value
    if width <= len(look.more):
        return look.more[: max(width, 0)]
    return set_cell_size(value, width - 1).rstrip() + look.more


def fitted(value: Text, width: int, look: Look) -> Text:
    """The same for a text with styles."""
    if value.cell_len <= width:
        return value
    shown = value.copy()
    shown.truncate(max(width - 1, 0))
    shown.rstrip()
    return shown.append(look.more) if width > 0 else Text()


def padded(value: Text, width: int, look: Look, *, right: bool = False) -> Text:
    """Exactly so many cells: cut, or filled with spaces on the left if it stands `right`."""
    shown = fitted(value, width, look)
    space = " " * (width - shown.cell_len)
    return Text(space).append_text(shown) if right else Text().append_text(shown).append(space)


def two_sided(left: Text, right: Text, width: int, look: Look) -> Text:
    """A line with something at both ends; the right one gives way first."""
    room = width - left.cell_len - 2
    if room < min(right.cell_len, 4):
        return padded(left, width, look)
    tail = fitted(right, room, look)
    return Text().append_text(left).append(" " * (width - left.cell_len - tail.cell_len)).append_text(tail)
