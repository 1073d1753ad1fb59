"""`vastproxy drain`: takes an instance out of service without breaking what runs on it, and back."""

import json
import threading
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vastproxy.cli import render
from vastproxy.cli.asking import Asker, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile, InstanceId
from vastproxy.cli.progress import waiting
from vastproxy.errors import VastproxyError
from vastproxy.settings import load

#: Between two looks at how many requests still run.
LOOK_S = 1.0


class NotDrained(VastproxyError):
    """The proxy does not serve the instance, or does not take orders from us."""


def drain(
    instance_id: InstanceId,
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

    Examples:

      vastproxy drain 48001001 --wait

      vastproxy drain 48001001 --undo
    """
    if wait and undo:
        raise typer.BadParameter("--wait waits for a drained instance, and --undo takes that back")
    loaded = load(config_path=config)
    with asking(proxy_url(url, loaded), key=inbound_key(loaded)) as proxy:
        backend = order(proxy, instance_id, undo=undo)
        if wait:
            with waiting(f"waiting for the requests that run on instance {instance_id}"):
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
    """Look until none of its requests runs, or it is gone. Raises NoProxyThere; NotDrained when somebody has taken the
    order back."""
    sleep = threading.Event().wait if sleep is None else sleep
    while backend.get("in_flight"):
        sleep(LOOK_S)
        answer = proxy.get("/vastproxy/v1/backends")
        rows = proxy.object(answer).get("backends")
        if answer.status_code != 200 or not isinstance(rows, list):
            raise NotDrained(
                f"{proxy.base} does not tell any more how many requests run (HTTP {answer.status_code})"
            )
        found = [row for row in rows if isinstance(row, dict) and row.get("id") == instance_id]
        if not found:
            return {**backend, "in_flight": 0}
        backend = found[0]
        if backend.get("state") != "draining":
            raise NotDrained(f"instance {instance_id} is not drained any more: somebody lets it serve again")
    return backend


def _told(instance_id: int, backend: dict[str, Any], *, undo: bool) -> str:
    state = render.clean(str(backend.get("state")))
    if undo:
        after = "" if state == "healthy" else "; it serves after a good probe"
        return f"instance {instance_id} is {state}{after}"
    left = backend.get("in_flight") or 0
    if not left:
        return f"instance {instance_id} is drained; none of its requests runs"
    count = render.clean(str(left))
    return f"instance {instance_id} gets no new requests; {count} still {'runs' if left == 1 else 'run'}"
