"""The backends as cards, several in a row: every GPU has a line of its own. Pure."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from rich.text import Text

from vastproxy.cli.top import facts, words
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.values import Row, number, rows, text

#: Cells that a card takes at least, its border included, and between two of them.
CARD: Final = 56
GAP: Final = 1
#: GPUs that get a line each; of more, the last line tells of the rest together.
MOST_GPUS: Final = 4


def across(width: int) -> int:
    """How many cards stand side by side; 0 where there is no room for one."""
    return (width + GAP) // (CARD + GAP)


def height(row: Row) -> int:
    """Lines that a card takes, its border included."""
    return 4 + min(max(len(rows(row, "gpus")), 1), MOST_GPUS)


def shelves(backends: Sequence[Row], width: int) -> list[int]:
    """The height of each row of cards."""
    many = max(across(width), 1)
    return [max(map(height, backends[at : at + many])) for at in range(0, len(backends), many)]


def lines(backends: Sequence[Row], width: int, look: Look, *, chosen: int | None) -> list[Text]:
    """All cards; `chosen`: the place of the chosen one."""
    many = max(across(width), 1)
    cells = (width - GAP * (many - 1)) // many
    drawn: list[Text] = []
    for at, tall in zip(range(0, len(backends), many), shelves(backends, width), strict=True):
        shelf = [
            card(row, cells, tall, look, chosen=at + place == chosen)
            for place, row in enumerate(backends[at : at + many])
        ]
        for parts in zip_longest(*shelf, fillvalue=Text(" " * cells)):
            drawn.append(words.padded(Text(" " * GAP).join(parts), width, look))
    return drawn


def card(row: Row, width: int, tall: int, look: Look, *, chosen: bool) -> list[Text]:
    """One backend within a border of `tall` lines; the border of the chosen one is thick."""
    upper_left, upper_right, lower_left, lower_right, across, down = look.thick if chosen else look.thin
    style = "" if chosen else "dim"
    inner = width - 4
    drawn = [_edge(row, width, look, style, (upper_left, across, upper_right))]
    for content in _content(row, inner, tall - 2, look):
        side = (down, style)
        drawn.append(Text.assemble(side, " ", words.padded(content, inner, look), " ", side))
    drawn.append(Text(lower_left + across * (width - 2) + lower_right, style=style))
    return drawn


def _edge(row: Row, width: int, look: Look, style: str, signs: tuple[str, str, str]) -> Text:
    """The upper border, with the name and the state in it."""
    left, across, right = signs
    name = Text.assemble((facts.name(row, look), "bold"), "  ", facts.gpus_name(row, look))
    state = Text.assemble(facts.state(row, look), (f" {facts.since(row, look)}", "dim"))
    name = words.fitted(name, width - state.cell_len - 9, look)
    line = across * (width - name.cell_len - state.cell_len - 8)
    return Text.assemble(
        (left + across, style), " ", name, " ", (line, style), " ", state, " ", (across + right, style)
    )


def _content(row: Row, width: int, tall: int, look: Look) -> list[Text]:
    found = [_serves(row, width, look), *_gpus(row, width, tall - 2, look)]
    found += [Text()] * (tall - 1 - len(found))
    return [*found[: tall - 1], _figures(row, width, look)]


def _serves(row: Row, width: int, look: Look) -> Text:
    """Over which path, with which engine, which model; or why not."""
    way = words.padded(facts.way(row, look, with_word=True), 11, look)
    if why := facts.trouble(row):
        return words.fitted(Text.assemble(way, (why, "red")), width, look)
    shown = Text.assemble(way, facts.model(row, look))
    if engine := text(row, "engine"):
        shown.append(f"  {engine}", style="dim")
    return words.fitted(shown, width, look)


def _gpus(row: Row, width: int, room: int, look: Look) -> list[Text]:
    """A line each; where there are too many, the last one tells of the rest together."""
    gpus = rows(row, "gpus")
    if not gpus:
        return [Text(text(row, "gpu_error") or "no reading of its GPUs yet", style="dim")]
    most = min(room, MOST_GPUS)
    alone = len(gpus) if len(gpus) <= most else most - 1
    cells = 3 if len(gpus) > 1 else 0
    drawn = [_line(f"{at}"[:cells], cells, [gpu], width, look) for at, gpu in enumerate(gpus[:alone])]
    if rest := gpus[alone:]:
        drawn.append(_line(f"+{len(rest)}", cells, rest, width, look))
    return drawn


def _line(name: str, cells: int, gpus: Sequence[Row], width: int, look: Look) -> Text:
    """How busy one or several GPUs are, how hot the hottest is, and what they take together."""
    shown = words.padded(Text(name, style="dim"), cells, look)
    if any(gpu.get("lost") is True for gpu in gpus):
        return shown.append("the driver has lost this GPU", style="red")
    joined = {"gpus": gpus}
    load = facts.utilization(joined)
    figures = Text.assemble(
        words.padded(Text(words.percent(load, look)), 6, look, right=True),
        words.padded(facts.heat(facts.hottest(joined), look), 7, look, right=True),
        words.padded(Text(facts.memory(joined, look)), 12, look, right=True),
        words.padded(Text(words.watts(facts.power(joined), look)), 7, look, right=True),
    )
    return shown.append_text(words.bar(load, max(width - figures.cell_len - cells, 4), look)).append_text(
        figures
    )


def _figures(row: Row, width: int, look: Look) -> Text:
    """What it does and costs. Each stands at its place, whatever the others are."""
    found = [
        (Text(words.whole(number(row, "in_flight"), look)), 4, " in flight"),
        (Text(words.rate(number(row, "tokens_per_s"), look)), 6, " tok/s"),
        (Text(words.dollars(number(row, "hourly_cost"), look)), 7, "/h"),
        (facts.errors_shown(row, look), 5, " err"),
        (facts.time_left(row, look), 5, " left"),
    ]
    shown = Text()
    for value, cells, label in found:
        shown.append_text(words.padded(value, cells, look, right=True)).append(label, style="dim")
    return words.fitted(shown, width, look)
