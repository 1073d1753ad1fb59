"""The top of the dashboard: where the proxy is, how it is, and its figures now. Pure."""

from typing import NamedTuple

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.look import STATE_STYLES, Look
from vastproxy.cli.top.values import Row, number, part, text

#: Cells of one figure: the largest that are usual, and a gap.
TILE = 10


class Figure(NamedTuple):
    """A value and what it is. `rank`: the higher ones are left out first where there is no room."""

    value: str
    label: str
    rank: int
    style: str = ""


def header(board: Board, width: int, look: Look, *, now: float) -> list[Text]:
    """Its lines: the title, the figures with their names below, and what is wrong, if anything is."""
    lines = [_title(board, width, look), Text(), *_tiles(figures(board.fleet, look), width, look)]
    if (news := _banner(board, look, now)) is not None:
        lines.append(words.padded(news, width, look))
    return lines


def _title(board: Board, width: int, look: Look) -> Text:
    fleet = board.fleet
    address = text(fleet, "url") or board.url
    left = Text.assemble((" vastproxy", "bold"), "  ", address)
    gap = ("  ", "")
    right = Text.assemble(
        *_health(fleet, look), gap, *_vast_api(fleet, look), gap, *_uptime(fleet, look), " "
    )
    if left.cell_len + right.cell_len + 2 > width:
        right = Text.assemble(*_health(fleet, look), gap, *_vast_api(fleet, look), " ")
    if left.cell_len + right.cell_len + 2 > width:
        right = Text.assemble(*_health(fleet, look), " ")
    if left.cell_len + right.cell_len + 2 > width:
        left = Text.assemble(" ", address.partition("://")[2] or address)
    return words.padded(words.two_sided(left, right, width, look), width, look)


def _health(fleet: Row, look: Look) -> list[tuple[str, str]]:
    counts = part(fleet, "counts")
    healthy, total = number(counts, "healthy"), number(counts, "total")
    status = text(fleet, "status")
    if total is None:
        return [(f"{look.dot} {look.dash}", "dim")]
    return [
        (
            f"{look.dot} {words.whole(healthy, look)}/{words.whole(total, look)} healthy",
            STATE_STYLES.get(status, ""),
        )
    ]


def _vast_api(fleet: Row, look: Look) -> list[tuple[str, str]]:
    api = part(fleet, "vast_api")
    latency, status = number(api, "latency_ms"), text(api, "status")
    if status == "healthy":
        return [("vast.ai ", "dim"), (words.ms(latency, look) if latency is not None else "ok", "")]
    return [("vast.ai ", "dim"), (status or look.dash, "red" if status == "unhealthy" else "")]


def _uptime(fleet: Row, look: Look) -> list[tuple[str, str]]:
    uptime = number(fleet, "uptime_s")
    # Seconds would change with every look, and tell nobody anything.
    shown = words.long_span(uptime - uptime % 60 if uptime is not None and uptime >= 60 else uptime, look)
    return [("up ", "dim"), (shown if uptime is None or uptime >= 60 else "< 1 min", "")]


def figures(fleet: Row, look: Look) -> list[Figure]:
    """In the order in which they stand."""
    totals, account = part(fleet, "totals"), part(fleet, "account")
    share, waiting = number(totals, "sticky_share"), number(totals, "waiting")
    failing, hours = number(totals, "errors_per_s"), number(account, "hours_left")
    spent = number(totals, "dollars_per_hour")
    if spent is None:
        spent = number(account, "dollars_per_hour")
    left = None if hours is None else hours * 3600
    return [
        Figure(words.rate(number(totals, "requests_per_s"), look), "req/s", 1),
        Figure(words.rate(number(totals, "tokens_out_per_s"), look), "tok/s", 2),
        Figure(words.whole(number(totals, "in_flight"), look), "in flight", 6),
        Figure(words.whole(waiting, look), "queue", 5, "yellow" if waiting else ""),
        Figure(words.percent(None if share is None else share * 100, look), "sticky", 7),
        Figure(words.dollars(spent, look), "$/h", 3),
        Figure(words.dollars(number(totals, "dollars_per_million_tokens"), look), "$/1M tok", 4),
        Figure(words.dollars(number(account, "credit_dollars"), look), "credit", 8),
        Figure(words.span(left, look), "lasts", 9, "red" if hours is not None and hours < 1 else ""),
        Figure(words.dollars(number(totals, "cost_today_dollars"), look), "today", 12),
        Figure(words.ms(number(totals, "ttft_p50_ms"), look), "ttft p50", 10),
        Figure(words.ms(number(totals, "ttft_p99_ms"), look), "ttft p99", 13),
        Figure(words.rate(failing, look), "errors/s", 11, "red" if failing else ""),
    ]


def _tiles(found: list[Figure], width: int, look: Look) -> list[Text]:
    """Values above, names below. Each keeps its place, whatever its value."""
    many = max((width - 1) // TILE, 1)
    kept = [figure for figure in found if figure.rank <= many]
    tile = min((width - 1) // max(len(kept), 1), TILE + 4)
    values, labels = Text(" "), Text(" ")
    for figure in kept:
        values.append_text(words.padded(Text(figure.value, style=f"bold {figure.style}".strip()), tile, look))
        labels.append_text(words.padded(Text(figure.label, style="dim"), tile, look))
    return [words.padded(values, width, look), words.padded(labels, width, look)]


def _banner(board: Board, look: Look, now: float) -> Text | None:
    """What somebody should read: that the proxy is not there, or why it is not healthy."""
    if board.link == "lost":
        gone = words.long_span(max(now - board.since, 0.0) // 5 * 5, look)
        return Text(f" {board.why}; trying again, for {gone} now", style="bold red")
    if board.link == "connecting" and not board.fleet:
        return Text(f" connecting to {board.url}{look.more}", style="yellow")
    if reason := text(board.fleet, "reason"):
        return Text(f" {reason}", style=STATE_STYLES.get(text(board.fleet, "status"), ""))
    api = part(board.fleet, "vast_api")
    if text(api, "status") == "unhealthy" and (error := text(api, "error")):
        return Text(f" vast.ai does not answer: {error}", style="yellow")
    return None
