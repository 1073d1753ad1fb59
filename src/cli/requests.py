"""`vastproxy requests`, `cancel` and `abort`: what runs through a proxy, and how to end it."""

import json
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vastproxy.cli import render
from vastproxy.cli.asking import Asker, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile, InstanceIds, ProxyUrl
from vastproxy.cli.orders import NotDone, asked, order, rows
from vastproxy.settings import load

#: Between two looks with --watch.
LOOK_S = 1.0
LIST = "/vastproxy/v1/requests"
#: Requests that a proxy lists at most.
MOST = 200
_COLOURS = {"running": "green", "waiting": "yellow"}


class Kind(StrEnum):
    """Which requests."""

    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"


def requests(
    url: ProxyUrl = None,
    state: Annotated[
        Kind | None,
        typer.Option("--state", help="Only those that run, that wait for a place, or that are over."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=MOST, help="How many at most.")] = 50,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show them again every second, until Ctrl-C.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the last requests of a running proxy, the newest first.

    Shows how each stands, what it asks for, which instance has it, and its times. With --json and --watch, one JSON
    document a line.

    Examples:

      vastproxy requests --state running --watch

      vastproxy requests http://gpu-gw:8080 --json
    """
    loaded = load(config_path=config)
    with asking(proxy_url(url, loaded), key=inbound_key(loaded)) as proxy:
        if watch:
            follow(proxy, state, limit, as_json=as_json)
            return
        found = listed(proxy, state, limit)
    if as_json:
        typer.echo(json.dumps({"requests": found}, indent=2))
    else:
        show(render.stdout(), found, state)


def listed(proxy: Asker, state: Kind | None, limit: int) -> list[dict[str, Any]]:
    """What the proxy tells of its last requests. Raises NoProxyThere, NotDone."""
    wanted = "" if state is None else f"&state={state}"
    found = rows(asked(proxy, f"{LIST}?limit={limit}{wanted}"), "requests")
    return [row for row in found if state is None or row.get("state") == state]


def follow(
    proxy: Asker,
    state: Kind | None,
    limit: int,
    *,
    as_json: bool,
    sleep: Callable[[float], object] | None = None,
) -> None:
    """Show them again and again, until interrupted. On a terminal each time on a clean screen."""
    sleep = threading.Event().wait if sleep is None else sleep
    console = render.stdout()
    while True:
        found = listed(proxy, state, limit)
        if as_json:
            typer.echo(json.dumps({"requests": found}))
        else:
            if console.is_terminal:
                console.clear()
            show(console, found, state, height=console.height - 2 if console.is_terminal else None)
        sleep(LOOK_S)


def show(
    console: Console, found: list[dict[str, Any]], state: Kind | None, *, height: int | None = None
) -> None:
    """A table of requests; of `height` lines at most."""
    if not found:
        render.line(console, f"no requests{'' if state is None else f' that are {state}'}")
        return
    shown = found if height is None or len(found) < height else found[: max(height - 2, 1)]
    table = render.new_table()
    table.add_column("Request", overflow="fold", min_width=12)
    for name in ("State", "Asks for"):
        table.add_column(name, overflow="ellipsis", no_wrap=name == "State")
    for name in ("Instance", "Age", "Waited", "First"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        _add(table, row)
    console.print(table)
    if len(shown) < len(found):
        render.line(console, f"{len(found) - len(shown)} more")


def _add(table: Table, row: Mapping[str, Any]) -> None:
    state, status = str(row.get("state") or ""), row.get("status")
    word = render.clean(str(status)) if state == "done" and status is not None else state
    bad = isinstance(status, int) and status >= 400
    attempts = rows(row, "attempts")
    instance = attempts[-1].get("instance") if attempts else None
    table.add_row(
        render.clean(str(row.get("id") or "")),
        Text(render.clean(word), style=_COLOURS.get(state, "red" if bad else "")),
        render.clean(str(row.get("model") or row.get("path") or "")),
        "-" if instance is None else render.clean(str(instance)),
        *(_seconds(row.get(name)) for name in ("total_ms", "queue_ms", "first_byte_ms")),
    )


def _seconds(milliseconds: object) -> str:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
        return "-"
    seconds = milliseconds / 1000
    return f"{seconds:.2f} s" if seconds < 60 else render.duration(seconds)


def cancel(
    request_ids: Annotated[
        list[str],
        typer.Argument(
            metavar="REQUEST_ID...",
            help="X-Request-Id of each, as `vastproxy requests` shows it.",
            show_default=False,
        ),
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End requests that run or wait; the engines stop working on them.

    Their clients get status 503 with the code `cancelled`, or, where the answer has begun, an error event and the end
    of the connection. Exits with 1 if one of them is not known or over already; the others are cancelled all the same.

    Examples:

      vastproxy cancel 5f1c0e9a2b3d00000001

      vastproxy requests --state running --json | jq -r '.requests[].id' | xargs vastproxy cancel
    """
    loaded = load(config_path=config)
    done: list[dict[str, Any]] = []
    failed: list[NotDone] = []
    with asking(proxy_url(url, loaded), key=inbound_key(loaded)) as proxy:
        for request_id in request_ids:
            try:
                done.append(order(proxy, f"{LIST}/{quote(request_id, safe='')}/cancel"))
            except NotDone as error:
                if error.http_status not in (404, 409):
                    raise
                failed.append(error)
                done.append({"id": request_id, "cancelled": False, "code": error.code, "error": str(error)})
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        console = render.stdout()
        for row in done:
            if row.get("cancelled"):
                render.line(console, f"cancelled {row.get('id')}, which was {row.get('was')}")
    if failed and as_json:
        raise typer.Exit(1)
    if failed:
        raise NotDone("; ".join(f"{row['id']}: {row['error']}" for row in done if "error" in row))


def abort(
    instances: InstanceIds = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that run or wait, on whatever instance.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End all requests that run on instances, or all there are.

    Clients and engines are told as with `cancel`. New requests come as before; `vastproxy drain` ends that. Exits with
    1 if the proxy does not serve an instance.

    Examples:

      vastproxy abort 48001001

      vastproxy abort --all
    """
    if bool(instances) == everything:
        raise typer.BadParameter("name instances, or --all")
    loaded = load(config_path=config)
    wanted: list[int | None] = [None] if everything else list(instances or ())
    with asking(proxy_url(url, loaded), key=inbound_key(loaded)) as proxy:
        counts = {
            each: order(proxy, "/vastproxy/v1/abort", {"instance": each}).get("cancelled") for each in wanted
        }
    if as_json:
        told = [{"instance": each, "cancelled": count} for each, count in counts.items()]
        typer.echo(json.dumps(told[0] if everything else told, indent=2))
        return
    for each, count in counts.items():
        where = "" if each is None else f" on instance {each}"
        render.line(render.stdout(), f"{count} request{'' if count == 1 else 's'}{where} cancelled")
