"""`vastproxy trust`: accepts a host key that was refused because it is not the pinned one."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any

import typer
from rich.console import Console

from vastproxy.cli import render
from vastproxy.cli.asking import NoProxyThere, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile, InstanceId, ProxyUrl
from vastproxy.cli.orders import NotDone, asked, order, rows
from vastproxy.errors import VastproxyError
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import LOOK_INSIDE, when
from vastproxy.services.tunnels.hostkeys import HostKeyPins, pins_path
from vastproxy.services.tunnels.pinfile import read_book
from vastproxy.services.tunnels.pins import Change, UnreadablePins
from vastproxy.services.tunnels.publickey import printable, shown
from vastproxy.settings import Loaded, SettingsError, load


class NothingTrusted(VastproxyError):
    """There was nothing to accept, or the person did not accept it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A changed key as a person is shown it; times in Unix seconds. `key`: the refused one, as it is accepted."""

    path: str
    address: str
    pinned: str
    since: int
    refused: str
    seen: int
    key: str

    def to_json(self) -> dict[str, Any]:
        """What is told of it once it is trusted."""
        return {"path": self.path, "address": self.address, "key": self.key}


#: Shows what changed, and raises NothingTrusted unless somebody accepts it.
Consent = Callable[[Sequence[Seen]], None]


def trust(
    instance_id: InstanceId,
    url: ProxyUrl = None,
    path: Annotated[
        Path | None, typer.Option("--path", help="Only the key seen on this path. Default: both.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept without asking.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Accept the new host key of an instance whose key has changed.

    Shows the pinned key and the one that was refused, and asks. A running proxy is told and connects at once; where
    none runs, the file of pinned keys is changed, and the next attempt to connect takes it into account. Exits with 1
    if there is nothing to accept or you decline.

    Examples:

      vastproxy trust 48001001

      vastproxy trust 48001001 http://gpu-gw:8080
    """
    loaded = load(config_path=config)
    # With --json, what is asked goes to stderr, so that stdout holds the answer alone.
    console = render.stderr() if as_json else render.stdout()

    def consent(found: Sequence[Seen]) -> None:
        for each in found:
            show(console, each, instance_id)
        if not yes:
            _ask(found, err=as_json)

    base = proxy_with_changes(loaded, url, instance_id)
    if base is None:
        trusted = _in_file(loaded, instance_id, path, consent)
        told = f"trusted; `vastproxy serve` connects to instance {instance_id} at its next attempt"
    else:
        trusted = _through(base, inbound_key(loaded), instance_id, path, consent)
        told = f"trusted; {base} connects to instance {instance_id} now"
    if as_json:
        rows = [each.to_json() for each in trusted]
        typer.echo(json.dumps({"id": instance_id, "proxy": base, "trusted": rows}, indent=2))
    else:
        render.line(render.stdout(), told)


def proxy_with_changes(loaded: Loaded, url: str | None, instance_id: int) -> str | None:
    """The address of the proxy that knows of a changed key of the instance; None: none does, or none lets us ask. One
    that was named is it in any case."""
    if url is not None:
        return proxy_url(url, loaded)
    try:
        base = proxy_url(None, loaded)
        with asking(base, key=inbound_key(loaded)) as proxy:
            return base if rows(asked(proxy, _page(instance_id)), "changes") else None
    except (NoProxyThere, NotDone, SettingsError):
        return None


def _through(
    base: str, key: str | None, instance_id: int, path: Path | None, consent: Consent
) -> Sequence[Seen]:
    """Have the proxy trust what a person has looked at. Raises NoProxyThere, NotDone, NothingTrusted."""
    with asking(base, key=key) as proxy:
        told = rows(asked(proxy, _page(instance_id)), "changes")
        found = [each for each in map(_of_row, told) if path in (None, each.path)]
        if not found:
            raise NothingTrusted(
                f"at {base} no changed host key {_of(instance_id, path)}, so there is nothing to trust"
            )
        consent(found)
        body: dict[str, Any] = {"keys": [each.key for each in found]}
        order(proxy, _page(instance_id), body if path is None else {**body, "path": path.value})
    return found


def _in_file(loaded: Loaded, instance_id: int, path: Path | None, consent: Consent) -> Sequence[Seen]:
    tunnels = loaded.settings.tunnels
    if tunnels.host_keys == "strict":
        raise SettingsError(
            f"tunnels.host_keys is strict: put the instance's key into {tunnels.known_hosts}; nothing is pinned"
        )
    file = pins_path(tunnels, loaded.environ)
    if file is None:
        raise SettingsError("there is no home directory to keep host keys in; set tunnels.state_dir")
    changes = asyncio.run(refused_keys(file, instance_id, path))
    found = [_of_change(change) for change in changes]
    consent(found)
    asyncio.run(accept(file, changes, instance_id))
    return found


def _ask(found: Sequence[Seen], *, err: bool) -> None:
    """Raises NothingTrusted."""
    try:
        agreed = typer.confirm(f"Trust the new key{'s' if len(found) > 1 else ''}?", default=False, err=err)
    except typer.Abort:
        agreed = False
    if not agreed:
        raise NothingTrusted("nothing was changed")


async def refused_keys(file: FilePath, instance_id: int, path: Path | None) -> tuple[Change, ...]:
    """The changed keys of the instance that wait to be accepted. Raises NothingTrusted when there are none."""
    try:
        book = await asyncio.to_thread(read_book, file)
    except OSError as exc:
        raise NothingTrusted(f"{file} cannot be used: {exc.strerror or exc}") from None
    except UnreadablePins as exc:
        raise NothingTrusted(f"{file} does not hold pinned host keys ({exc})") from None
    changes = tuple(one for one in book.changes(instance_id) if path in (None, one.path))
    if not changes:
        raise NothingTrusted(
            f"no changed host key {_of(instance_id, path)}, so there is nothing to trust ({file})"
        )
    return changes


async def accept(file: FilePath, changes: tuple[Change, ...], instance_id: int) -> None:
    """Pin the keys that somebody has looked at. Raises NothingTrusted when one has changed since."""
    pins = HostKeyPins(file)
    for change in changes:
        if not await pins.accept(change):
            raise NothingTrusted(
                f"the {change.path} path of instance {instance_id} has shown yet another key meanwhile; "
                f"look again with: vastproxy trust {instance_id}"
            )


def show(console: Console, each: Seen, instance_id: int) -> None:
    """Both keys, and how to find out which one is right."""
    render.line(console, f"instance {instance_id}, {each.path} path ({each.address})")
    render.line(console, f"  pinned   {each.pinned}  since {when(each.since)}")
    render.line(console, f"  refused  {each.refused}  last seen {when(each.seen)}")
    render.line(console, f"  its own  run in the instance: {LOOK_INSIDE}")


def _of_change(change: Change) -> Seen:
    return Seen(
        change.path.value,
        printable(change.refused.address),
        shown(change.pinned.key),
        change.pinned.since,
        shown(change.refused.key),
        change.refused.seen,
        change.refused.key,
    )


def _of_row(row: Mapping[str, Any]) -> Seen:
    """A change as the proxy tells it; what a proxy of another version leaves out is empty."""
    pinned, refused = (
        found if isinstance(found := row.get(name), dict) else {} for name in ("pinned", "refused")
    )
    return Seen(
        render.clean(str(row.get("path") or "")),
        render.clean(str(row.get("address") or "")),
        render.clean(str(pinned.get("shown") or "")),
        int(pinned.get("since_unix") or 0),
        render.clean(str(refused.get("shown") or "")),
        int(refused.get("seen_unix") or 0),
        str(refused.get("key") or ""),
    )


def _page(instance_id: int) -> str:
    return f"/vastproxy/v1/backends/{instance_id}/trust"


def _of(instance_id: int, path: Path | None) -> str:
    return f"of instance {instance_id} was seen" + ("" if path is None else f" on its {path} path")
