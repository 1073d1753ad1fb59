"""`vastproxy explain`: asks a running proxy what became of a request."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from vastproxy.cli import explained, render
from vastproxy.cli.asking import READ_TIMEOUT_S, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.errors import VastproxyError
from vastproxy.settings import load


class NotTold(VastproxyError):
    """The proxy does not know the request, or does not tell us."""


def explain(
    request_id: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST_ID",
            help="The X-Request-Id of its answer; the proxy's log has it too.",
            show_default=False,
        ),
    ],
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of a request: who could have served it, who was chosen and why, and how each attempt went.

    A running proxy remembers its last requests. Exits with 1 if it does not know this one.

    Examples:

      vastproxy explain df365918e42a00007e16

      vastproxy explain df365918e42a00007e16 http://gateway:8080 --json
    """
    loaded = load(config_path=config)
    trace = ask(proxy_url(url, loaded), request_id, key=inbound_key(loaded))
    if as_json:
        typer.echo(json.dumps(trace, indent=2))
    else:
        explained.request(render.stdout(), trace)


def ask(
    base: str, request_id: str, *, key: str | None, read_timeout_s: float = READ_TIMEOUT_S
) -> dict[str, Any]:
    """What the proxy at `base` remembers of the request. Raises NoProxyThere, or NotTold."""
    shown = render.clean(request_id)
    with asking(base, key=key, read_timeout_s=read_timeout_s) as proxy:
        answer = proxy.get(f"/vastproxy/v1/requests/{quote(request_id, safe='')}")
        if answer.status_code in (401, 403):
            raise NotTold(f"{base} explains requests only to holders of a key: set VASTPROXY_API_KEYS")
        content = proxy.object(answer)
    if answer.status_code == 404:
        raise NotTold(
            f"{base} remembers no request {shown}: it keeps the last ones only, and forgets all at a restart"
        )
    if answer.status_code != 200:
        raise NotTold(f"{base} does not explain request {shown} (HTTP {answer.status_code})")
    return content
