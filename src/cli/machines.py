"""`vastproxy machines`: what is known of the machines that were ever rented."""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from vastproxy.cli import render
from vastproxy.cli.ledger import LedgerFile, look_up
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.cli.tables import figure, table
from vastproxy.services.ledger.machines import machines as machines_in
from vastproxy.settings import load


def machines(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    file: LedgerFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the machines that you have rented, and how they did.

    Hours, requests, failures, lost connections, speed, and a score from 0 to 1 of how far each can be relied on, over
    all times it was rented. Asks a running proxy; where none answers, reads the ledger that it has left.

    Examples:

      vastproxy machines

      vastproxy machines --json
    """

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        return {"machines": [one.to_json() for one in machines_in(connection)]}

    told, source = look_up(load(config_path=config), url, file, path="/vastproxy/v1/machines", read=read)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        show(render.stdout(), told, source)


def show(
    console: Console, told: Mapping[str, Any], source: str, *, clock: Callable[[], float] = time.time
) -> None:
    """The answer of a proxy for people."""
    rows = [row for row in told.get("machines") or () if isinstance(row, Mapping)]
    if rows:
        heads = ("Rented", "Hours", "Requests", "Errors", "Drops", "TTFT", "tok/s", "Score", "Last seen")
        shown = table("Machine", *heads)
        for row in rows:
            shown.add_row(*_cells(row, clock()))
        console.print(shown)
    else:
        render.line(console, "no machine is known yet: those that a running proxy sees are")
    render.line(console, f"as told by {source}")


def _cells(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    seen, score = row.get("last_seen_unix"), row.get("score")
    gpu = render.clean(str(row.get("gpu") or ""))
    rentals = row.get("rentals")
    return (
        f"{row.get('machine_id')} {gpu}".strip(),
        f"{rentals}x" if isinstance(rentals, int) else "-",
        figure(row.get("hours"), whole_from=100),
        figure(row.get("requests")),
        figure(row.get("errors")),
        figure(row.get("tunnel_drops")),
        figure(row.get("ttft_p50_ms"), " ms", whole_from=1000),
        figure(row.get("tokens_per_s"), whole_from=100),
        f"{score:.2f}" if isinstance(score, int | float) else "-",
        _ago(now - seen) if isinstance(seen, int | float) else "-",
    )


def _ago(seconds: float) -> str:
    """In one unit, which has to fit below `Last seen`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"
