"""`vastproxy status`: asks a running proxy how it is."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from vastproxy.cli import render
from vastproxy.cli.asking import READ_TIMEOUT_S, asking, inbound_key, proxy_url
from vastproxy.cli.check import check
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.settings import load


@dataclass(frozen=True, slots=True)
class Answer:
    """What a proxy said. `backends` is None where it would not list them; `note` says why."""

    url: str
    health: dict[str, Any]
    backends: list[dict[str, Any]] | None
    note: str | None = None

    @property
    def serves(self) -> bool:
        return self.health.get("status") in ("healthy", "degraded")


def status(
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    as_check: Annotated[
        bool, typer.Option("--check", help="Print one line for Nagios, and exit with its codes.")
    ] = False,
) -> None:
    """Ask a running proxy how it is.

    Shows the proxy, its connection to vast.ai, and each backend with its engine, models and GPUs.
    Exits with 0 if it can serve (healthy or degraded), with 1 if it cannot or nothing answers.
    With --check: 0 healthy, 1 degraded, 2 cannot serve or nothing answers, 3 not known.

    Examples:

      vastproxy status

      vastproxy status http://gateway:8080 --json

      vastproxy status --check
    """
    if as_check:
        checked = check(lambda: proxy_url(url, load(config_path=config)))
        typer.echo(checked)
        raise typer.Exit(checked.grade)
    loaded = load(config_path=config)
    answer = ask(proxy_url(url, loaded), key=inbound_key(loaded))
    if as_json:
        shown = {"url": answer.url, "health": answer.health, "backends": answer.backends, "note": answer.note}
        typer.echo(json.dumps(shown, indent=2))
    else:
        render.status(render.stdout(), answer.url, answer.health, answer.backends, answer.note)
    if not answer.serves:
        raise typer.Exit(1)


def ask(base: str, *, key: str | None, read_timeout_s: float = READ_TIMEOUT_S) -> Answer:
    """Fetch health and backends from a proxy. Raises NoProxyThere when there is none."""
    with asking(base, key=key, read_timeout_s=read_timeout_s) as proxy:
        health = proxy.object(proxy.get("/healthz"))
        listing = proxy.get("/vastproxy/v1/backends")
    if listing.status_code in (401, 403):
        note = "the proxy lists its backends only to holders of a key: set VASTPROXY_API_KEYS"
        return Answer(base, health, None, note)
    if listing.status_code != 200:
        note = f"the proxy does not list its backends (HTTP {listing.status_code})"
        return Answer(base, health, None, note)
    backends = proxy.object(listing).get("backends")
    rows = [row for row in backends if isinstance(row, dict)] if isinstance(backends, list) else []
    return Answer(base, health, rows)
