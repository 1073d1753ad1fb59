"""The backends as a list, one line each: as many columns as fit. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from vastproxy.cli.top import facts, words
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.values import Row, number

BAR = 8
#: What the model's column may take, if there is room.
MODEL = (12, 36)


@dataclass(frozen=True, slots=True)
class Column:
    """`rank`: columns of a higher one are left out first. `order`: the one of `facts.ORDERS` that it shows."""

    name: str
    width: int
    rank: int
    cell: Callable[[Row, Look], Text | str]
    right: bool = False
    order: str = ""


def _price(row: Row, look: Look) -> str:
    return words.dollars(number(row, "hourly_cost"), look)


def _tokens(row: Row, look: Look) -> str:
    return words.rate(number(row, "tokens_per_s"), look)


def _in_flight(row: Row, look: Look) -> str:
    return words.whole(number(row, "in_flight"), look)


def _bar(row: Row, look: Look) -> Text:
    return words.bar(facts.utilization(row), BAR, look)


def _load(row: Row, look: Look) -> str:
    return words.percent(facts.utilization(row), look)


def _heat(row: Row, look: Look) -> Text:
    return facts.heat(facts.hottest(row), look)


def _power(row: Row, look: Look) -> str:
    return words.watts(facts.power(row), look)


COLUMNS: Final = (
    Column("Instance", 10, 0, facts.name, order="id"),
    Column("GPUs", 13, 3, facts.gpus_name),
    Column("State", 12, 0, facts.state, order="state"),
    Column("For", 4, 6, facts.since, right=True),
    Column("Via", 3, 1, facts.way),
    Column("Model", 0, 9, facts.short_model),
    Column("Load", BAR, 8, _bar, order="load"),
    Column("%", 4, 2, _load, right=True),
    Column("Heat", 5, 7, _heat, right=True),
    Column("Memory", 10, 10, facts.memory, right=True),
    Column("Watts", 5, 12, _power, right=True),
    Column("Req", 4, 2, _in_flight, right=True, order="requests"),
    Column("Tok/s", 6, 4, _tokens, right=True, order="tokens"),
    Column("$/h", 6, 5, _price, right=True, order="price"),
    Column("Err", 4, 11, facts.errors_shown, right=True, order="errors"),
    Column("Left", 4, 8, facts.time_left, right=True, order="time left"),
)
#: Of the columns after this one, a backend in trouble has the words that say why.
_FACTS_BEGIN: Final = "Via"


def columns_for(width: int) -> list[tuple[Column, int]]:
    """Those that fit into so many cells, each with its width; the marker and the gaps are counted."""
    room, kept = width - 2, list[Column]()
    for column in sorted(COLUMNS, key=lambda each: each.rank):
        needed = (column.width or MODEL[0]) + 1
        if room >= needed:
            kept.append(column)
            room -= needed
    spare = min(room, MODEL[1] - MODEL[0])
    return [(each, each.width or MODEL[0] + spare) for each in COLUMNS if each in kept]


def head(width: int, look: Look, order: str) -> Text:
    """The names of the columns; the one that is sorted by has a mark."""
    line = Text("  ", style="dim")
    for column, cells in columns_for(width):
        name = column.name + look.falling if order and column.order == order else column.name
        line.append_text(words.padded(Text(name), cells, look, right=column.right)).append(" ")
    return words.padded(line, width, look)


def line(row: Row, width: int, look: Look, *, chosen: bool) -> Text:
    """One backend."""
    columns = columns_for(width)
    shown = Text(f"{look.chosen} " if chosen else "  ", style="bold" if chosen else "")
    names = [column.name for column, _ in columns]
    until = names.index(_FACTS_BEGIN) + 1 if _FACTS_BEGIN in names else len(columns)
    why = facts.trouble(row)
    for column, cells in columns[:until] if why else columns:
        cell = column.cell(row, look)
        cell = Text(cell) if isinstance(cell, str) else cell
        shown.append_text(words.padded(cell, cells, look, right=column.right)).append(" ")
    if why:
        shown.append_text(Text(why, style="red"))
    return words.padded(shown, width, look)


def empty(sought: str, total: int) -> str:
    """What is said instead of a list."""
    if sought and total:
        return f"none of {total} instances matches /{sought}"
    return "no instances"


def lines(backends: Sequence[Row], width: int, look: Look, *, chosen: int | None) -> list[Text]:
    """All of them; `chosen`: the place of the chosen one."""
    return [line(row, width, look, chosen=at == chosen) for at, row in enumerate(backends)]
