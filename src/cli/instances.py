"""`vastproxy instances`: what the account has, and what of it would be served."""

import json
from collections.abc import Sequence
from time import time as clock
from typing import Annotated, Any

import typer

from vastproxy.cli import left, render
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.cli.remembered import remembered, row_of
from vastproxy.services.filters import refusal
from vastproxy.services.funds import AccountSnapshot
from vastproxy.services.timeleft import time_left
from vastproxy.settings import load
from vastproxy.settings.model import FleetSettings
from vastproxy.vastai import Instance, Phase, VastConfig, get_client

#: Left out unless asked for: they do nothing until somebody starts them.
AT_REST = frozenset((Phase.STOPPED, Phase.DESTROYED))

NOTHING_KNOWN = AccountSnapshot(None, None, None)


def instances(
    config: ConfigFile = None,
    as_json: AsJson = False,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are stopped.")] = False,
) -> None:
    """List the account's instances.

    Shows what they do, what they cost, how SSH reaches them, whether they would be served, and how long they are yours.

    Examples:

      vastproxy instances --all

      vastproxy instances --json | jq '.[] | select(.serves) | .id'
    """
    loaded = load(config_path=config)
    vast = VastConfig.from_settings(loaded.settings.vast, loaded.environ)
    with get_client(vast) as client:
        listed = client.list_instances()
    fleet = loaded.settings.fleet
    shown = [one for one in listed if everything or one.phase not in AT_REST]
    account = left.account_of(vast, listed) if shown else NOTHING_KNOWN
    known = remembered(loaded)
    rows = [
        {**as_row(one, fleet, account), "machine": row_of(known, one.machine_id, one.identity)}
        for one in shown
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    console = render.stdout()
    if rows:
        render.instances(console, rows)
    render.line(console, summary(listed, len(rows), vast.key_source))
    if listed.skipped:
        render.line(console, f"{listed.skipped} more could not be read: vast.ai gave them no id")


def as_row(
    instance: Instance, fleet: FleetSettings, account: AccountSnapshot = NOTHING_KNOWN
) -> dict[str, Any]:
    """An instance as JSON, without its secrets, with `serves`, `why_not` and `time_left`."""
    why = hindrance(instance, fleet)
    time = time_left(instance, account, clock(), fleet.drain_before_end_s)
    return {**instance.to_json(), "serves": why is None, "why_not": why, "time_left": time.to_json()}


def hindrance(instance: Instance, fleet: FleetSettings) -> str | None:
    """Why an engine in it would not be served, None if it would as soon as it answers."""
    if (why := refusal(instance, fleet)) is not None:
        return why
    if not instance.has_sshd:
        return "no sshd in it (runtype args)"
    if not instance.is_running:
        return "not running"
    if instance.direct_ssh is None and not instance.relay_ssh:
        return "no SSH address yet"
    return None


def summary(listed: Sequence[Instance], shown: int, key_source: str) -> str:
    """The line below the table: how many, what they cost, or what to do when there is none."""
    if not listed:
        return (
            f"no instances on the account of the key from {key_source}: "
            "rent one at https://cloud.vast.ai/ and run this again"
        )
    costs = sum(one.hourly_cost or 0.0 for one in listed)
    hidden = len(listed) - shown
    rest = f"; {hidden} stopped not shown (--all shows them)" if hidden else ""
    return f"{len(listed)} instance{'s' if len(listed) > 1 else ''}, ${costs:.3f} per hour{rest}"
