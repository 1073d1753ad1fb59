"""`vastproxy trust`: accepts a host key that was refused because it is not the pinned one."""

import asyncio
from pathlib import Path as FilePath
from typing import Annotated

import typer
from rich.console import Console

from vastproxy.cli import render
from vastproxy.cli.options import ConfigFile, InstanceId
from vastproxy.errors import VastproxyError
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostcheck import LOOK_INSIDE, when
from vastproxy.services.tunnels.hostkeys import HostKeyPins, pins_path
from vastproxy.services.tunnels.pinfile import read_book
from vastproxy.services.tunnels.pins import Change, UnreadablePins
from vastproxy.services.tunnels.publickey import printable, shown
from vastproxy.settings import SettingsError, load


class NothingTrusted(VastproxyError):
    """There was nothing to accept, or the person did not accept it."""


def trust(
    instance_id: InstanceId,
    path: Annotated[
        Path | None, typer.Option("--path", help="Only the key seen on this path. Default: both.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accept without asking.")] = False,
    config: ConfigFile = None,
) -> None:
    """Accept the new host key of an instance whose key has changed.

    Shows the pinned key and the one that was refused, and asks. A running proxy takes the new key into account at
    its next attempt to connect. Exits with 1 if there is nothing to accept or you decline.

    Example:

      vastproxy trust 48001001
    """
    loaded = load(config_path=config)
    tunnels = loaded.settings.tunnels
    if tunnels.host_keys == "strict":
        raise SettingsError(
            f"tunnels.host_keys is strict: put the instance's key into {tunnels.known_hosts}; nothing is pinned"
        )
    file = pins_path(tunnels, loaded.environ)
    if file is None:
        raise SettingsError("there is no home directory to keep host keys in; set tunnels.state_dir")
    console = render.stdout()
    changes = asyncio.run(refused_keys(file, instance_id, path))
    for change in changes:
        show(console, change, instance_id)
    if not (yes or typer.confirm(f"Trust the new key{'s' if len(changes) > 1 else ''}?", default=False)):
        raise NothingTrusted("nothing was changed")
    asyncio.run(accept(file, changes, instance_id))
    render.line(console, f"trusted; `vastproxy serve` connects to instance {instance_id} at its next attempt")


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
        where = "" if path is None else f" on its {path} path"
        raise NothingTrusted(
            f"no changed host key of instance {instance_id} was seen{where}, so there is nothing to trust ({file})"
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


def show(console: Console, change: Change, instance_id: int) -> None:
    """Both keys, and how to find out which one is right."""
    address = printable(change.refused.address)
    render.line(console, f"instance {instance_id}, {change.path} path ({address})")
    render.line(console, f"  pinned   {shown(change.pinned.key)}  since {when(change.pinned.since)}")
    render.line(console, f"  refused  {shown(change.refused.key)}  last seen {when(change.refused.seen)}")
    render.line(console, f"  its own  run in the instance: {LOOK_INSIDE}")
