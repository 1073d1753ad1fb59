"""`vastproxy cost`: what instances have cost, and what was had for it."""

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer
from rich.console import Console

from vastproxy.cli import render
from vastproxy.cli.ledger import LedgerFile, look_up
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.cli.tables import amount, figure, table
from vastproxy.services.ledger.report import By
from vastproxy.services.ledger.report import cost as cost_in
from vastproxy.services.ledger.since import DEFAULT_SINCE, since_of
from vastproxy.settings import load

_HEADS = {"instance": "Instance", "model": "Model", "key": "Key", "hour": "Hour (UTC)"}


def cost(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    by: Annotated[
        Literal["instance", "model", "key", "hour"], typer.Option("--by", help="What to tell apart.")
    ] = "instance",
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="TIME", help="A time ago such as 90min, 24h or 7d; all; or unix time."
        ),
    ] = DEFAULT_SINCE,
    file: LedgerFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what instances have cost, and for how many tokens.

    Asks a running proxy; where none answers, reads the ledger that it has left. Whole hours are told, in UTC. Rent of
    seconds in which an instance had nothing to do stands apart, as idle.

    Examples:

      vastproxy cost

      vastproxy cost --by model --since 7d

      vastproxy cost --by hour --json
    """
    now = time.time()
    begin = since_of(since, now)
    if begin is None:
        raise typer.BadParameter("--since takes a time ago such as 90min, 24h or 7d, all, or unix time")
    which: By = by

    def read(connection: sqlite3.Connection) -> dict[str, Any]:
        return cost_in(connection, which, begin, now).to_json()

    path = f"/vastproxy/v1/cost?by={by}&since={quote(since.strip())}"
    told, source = look_up(load(config_path=config), url, file, path=path, read=read)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    else:
        show(render.stdout(), told, source)


def show(console: Console, told: Mapping[str, Any], source: str) -> None:
    """The answer of a proxy for people."""
    rows = [row for row in told.get("rows") or () if isinstance(row, Mapping)]
    raw = told.get("total")
    total: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    if rows:
        shown = table(
            _HEADS.get(str(told.get("by")), "Name"), "$", "Idle $", "$/1M tok", "Requests", "In", "Out"
        )
        for row in rows:
            shown.add_row(render.clean(str(row.get("name"))), *_cells(row))
        shown.add_section()
        shown.add_row("total", *_cells(total))
        console.print(shown)
    else:
        render.line(console, "nothing was rented or served in that time")
    notes = []
    tokens = _number(total, "tokens_in") + _number(total, "tokens_out")
    if (estimated := _number(total, "estimated_tokens")) and tokens:
        share = estimated / tokens
        notes.append(f"{'less than 1%' if share < 0.01 else f'{share:.0%}'} of the tokens are estimated")
    if (bandwidth := _number(total, "bandwidth_dollars")) >= 0.005:
        notes.append(f"${amount(bandwidth)} of it for traffic")
    render.line(console, "; ".join(filter(None, (f"as told by {source}", *notes))))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    per_million = row.get("dollars_per_million_tokens")
    return (
        amount(row.get("dollars")),
        amount(row.get("idle_dollars")),
        amount(per_million),
        figure(row.get("requests")),
        figure(row.get("tokens_in")),
        figure(row.get("tokens_out")),
    )


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return value if isinstance(value, int | float) else 0
