"""`vastproxy drain`: takes an instance out of service without breaking what runs on it, and back."""

import json
import threading
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vastproxy.cli import render
from vastproxy.cli.asking import Asker, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.errors import VastproxyError
from vastproxy.settings import load

#: Between two looks at how many requests still run.
LOOK_S = 1.0


class NotDrained(VastproxyError):
    """The proxy does not serve the instance, or does not take orders from us."""


def drain(
    instance_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="Id of the instance.")],
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says."),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Let it serve again.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when none of its requests runs any more.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give an instance no new requests; those that run end in peace.

    Nothing on the account is changed, and a restart of the proxy forgets it. Exits with 1 if the proxy does not serve
    the instance.
    """
    loaded = load(config_path=config)
    with asking(proxy_url(url, loaded), key=inbound_key(loaded)) as proxy:
        backend = order(proxy, instance_id, undo=undo)
        if wait and not undo:
            backend = wait_until_idle(proxy, instance_id, backend)
    if as_json:
        typer.echo(json.dumps(backend, indent=2))
    else:
        render.line(render.stdout(), _told(instance_id, backend, undo=undo))


def order(proxy: Asker, instance_id: int, *, undo: bool) -> dict[str, Any]:
    """Drain it, or take that back. Returns the backend as it is then. Raises NoProxyThere, NotDrained."""
    answer = proxy.post(f"/vastproxy/v1/backends/{instance_id}/{'undrain' if undo else 'drain'}")
    if answer.status_code in (401, 403):
        raise NotDrained(f"{proxy.base} takes orders only from holders of a key: set VASTPROXY_API_KEYS")
    content = proxy.object(answer)
    if answer.status_code == 404:
        raise NotDrained(
            f"{proxy.base} serves no instance {instance_id}; `vastproxy status` lists those it does"
        )
    if answer.status_code != 200:
        raise NotDrained(f"{proxy.base} refused (HTTP {answer.status_code})")
    return content


def wait_until_idle(
    proxy: Asker,
    instance_id: int,
    backend: dict[str, Any],
    *,
    sleep: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """Look until none of its requests runs, or it is gone."""
    sleep = threading.Event().wait if sleep is None else sleep
    while backend.get("in_flight"):
        sleep(LOOK_S)
        rows = proxy.object(proxy.get("/vastproxy/v1/backends")).get("backends")
        found = [row for row in rows if row.get("id") == instance_id] if isinstance(rows, list) else []
        if not found:
            return {**backend, "in_flight": 0}
        backend = found[0]
    return backend


def _told(instance_id: int, backend: dict[str, Any], *, undo: bool) -> str:
    if undo:
        return f"instance {instance_id} is {render.clean(str(backend.get('state')))}; it serves after a good probe"
    left = backend.get("in_flight") or 0
    if not left:
        return f"instance {instance_id} is drained; none of its requests runs"
    return f"instance {instance_id} gets no new requests; {left} still {'runs' if left == 1 else 'run'}"
