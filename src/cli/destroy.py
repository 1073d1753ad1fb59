"""`vastproxy destroy`: ends the contracts of instances, for ever, once somebody has typed that he means it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console

from vastproxy.cli import render
from vastproxy.cli.asking import Asker, NobodyThere, NoProxyThere, asking, inbound_key, proxy_url
from vastproxy.cli.options import AsJson, ConfigFile, NamedInstances
from vastproxy.cli.orders import NotConfirmed, NotDone, asked, order, rows, somebody_types
from vastproxy.errors import VastproxyError
from vastproxy.services.filters import refusal
from vastproxy.settings import Loaded, SettingsError, load
from vastproxy.vastai import Instance, VastClient, VastConfig, get_client

#: vast.ai allows one in three seconds, and may make us wait longer.
READ_TIMEOUT_S = 300.0


class NothingDestroyed(VastproxyError):
    """There was nothing to destroy, or the person did not mean it, or it could not be done."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """An instance that is to go, as people know it."""

    id: int
    what: str
    dollars_per_hour: float | None
    label: str


class Account(Protocol):
    """Where instances are destroyed."""

    where: str

    def instances(self) -> Sequence[Doomed]:
        """All there are to choose from."""
        ...

    def destroy(self, instance_id: int) -> None:
        """Raises VastproxyError."""
        ...


class ThroughProxy:
    """The instances that a running proxy serves."""

    def __init__(self, proxy: Asker) -> None:
        self._proxy = proxy
        self.where = f"served by {proxy.base}"

    def instances(self) -> Sequence[Doomed]:
        """See `Account.instances`."""
        return [_of_row(row) for row in rows(asked(self._proxy, "/vastproxy/v1/backends"), "backends")]

    def destroy(self, instance_id: int) -> None:
        """See `Account.destroy`."""
        order(self._proxy, f"/vastproxy/v1/backends/{instance_id}/destroy", {"confirm": str(instance_id)})


class OnAccount:
    """The instances of the account that the settings let in, running or not."""

    where = "on the account"

    def __init__(self, client: VastClient, loaded: Loaded) -> None:
        self._client = client
        self._fleet = loaded.settings.fleet
        self._listed: tuple[Instance, ...] | None = None

    def instances(self) -> Sequence[Doomed]:
        """See `Account.instances`. Named ones may also be such that the settings keep out."""
        return [_of(one) for one in self._list()]

    def let_in(self) -> Sequence[Doomed]:
        """Those that --all means."""
        return [_of(one) for one in self._list() if refusal(one, self._fleet) is None]

    def _list(self) -> tuple[Instance, ...]:
        if self._listed is None:
            self._listed = self._client.list_instances(fresh=True)
        return self._listed

    def destroy(self, instance_id: int) -> None:
        """See `Account.destroy`."""
        self._client.destroy_instance(instance_id)


def destroy(
    instances: NamedInstances = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="All that the proxy serves, or without a proxy all that the settings let in."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Destroy without asking.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Address of the proxy. Default: where server.listen says, else vast.ai is asked directly.",
        ),
    ] = None,
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Ask vast.ai with the account's own key, also where a proxy runs."),
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End the contracts of instances and delete their data, for ever.

    Goes through the running proxy if there is one, which then takes them out of service at once; what it does not
    serve, and everything where nobody listens at its address, is destroyed with the account's own key. A proxy that
    does not answer is an error; --direct goes around it. Asks for the id to be typed, or for the words
    `destroy N instances`. Requests that run there break off: `vastproxy drain ID --wait` before it lets them end. Exits
    with 1 if one of them could not be destroyed.

    Examples:

      vastproxy destroy 48001001

      vastproxy destroy --all --yes
    """
    if bool(instances) == everything:
        raise typer.BadParameter("name instances, or --all")
    if direct and url is not None:
        raise typer.BadParameter("--direct goes to vast.ai, and --url to a proxy")
    if not (yes or somebody_types()):
        raise NotConfirmed("destroying cannot be undone: type the confirmation on a terminal, or give --yes")
    loaded = load(config_path=config)
    with ExitStack() as stack:
        proxy = None if direct else _proxy(stack, loaded, url)
        wanted = None if everything else dict.fromkeys(instances or ())
        chosen = _choose(stack, loaded, proxy, wanted, named=url is not None)
        doomed = [each for _, each in chosen]
        # What is asked goes to stderr, so that stdout holds the answer alone.
        if not yes:
            confirm(render.stderr(), doomed, chosen[0][0].where)
        results = list(_destroy(chosen, None if as_json else render.stdout()))
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    failed = [row for row in results if "error" in row]
    if failed:
        raise NothingDestroyed("; ".join(f"instance {row['id']}: {row['error']}" for row in failed))


def confirm(console: Console, doomed: Sequence[Doomed], where: str) -> None:
    """Show what would go, and have somebody type it. Raises NothingDestroyed."""
    table = render.new_table()
    for name in ("ID", "GPUs", "$/h", "Label"):
        table.add_column(name, no_wrap=name != "Label", justify="right" if name == "$/h" else "left")
    for each in doomed:
        cost = "-" if each.dollars_per_hour is None else f"{each.dollars_per_hour:.3f}"
        table.add_row(str(each.id), each.what, cost, each.label)
    console.print(table)
    words = str(doomed[0].id) if len(doomed) == 1 else f"destroy {len(doomed)} instances"
    count = "This instance" if len(doomed) == 1 else f"These {len(doomed)} instances"
    render.line(
        console, f"{count} {where} will be destroyed and all data there deleted. This cannot be undone."
    )
    try:
        typed = typer.prompt(f"Type '{words}' to go on", default="", show_default=False, err=True)
    except typer.Abort:
        typed = ""
    if " ".join(str(typed).split()) != words:
        raise NothingDestroyed("not confirmed; nothing was changed")


def _choose(
    stack: ExitStack,
    loaded: Loaded,
    proxy: ThroughProxy | None,
    wanted: dict[int, None] | None,
    *,
    named: bool,
) -> list[tuple[Account, Doomed]]:
    """Which instances, and who destroys each. `wanted`: these; None: all. `named`: it is the proxy or nobody. Raises
    VastproxyError."""
    found: dict[int, tuple[Account, Doomed]] = {}
    if proxy is not None:
        found = {each.id: (proxy, each) for each in proxy.instances()}
    if proxy is None or (not named and wanted is not None and wanted.keys() - found.keys()):
        client = stack.enter_context(
            get_client(VastConfig.from_settings(loaded.settings.vast, loaded.environ))
        )
        account = OnAccount(client, loaded)
        for each in account.let_in() if wanted is None else account.instances():
            found.setdefault(each.id, (account, each))
    if wanted is None:
        if not found:
            raise NothingDestroyed("there is no instance to destroy")
        return list(found.values())
    if missing := [str(each) for each in wanted if each not in found]:
        where = proxy.where if proxy is not None and named else "on the account"
        raise NothingDestroyed(f"there is no instance {', '.join(missing)} {where}; nothing was changed")
    return [found[each] for each in wanted]


def _proxy(stack: ExitStack, loaded: Loaded, url: str | None) -> ThroughProxy | None:
    """The running proxy; None where nobody listens at its address, or any port may be its own. One that was named has
    to be there, and one that does not answer or does not let us is an error: it may have a reason."""
    key = inbound_key(loaded)
    try:
        base = proxy_url(url, loaded)
    except SettingsError:
        if url is not None:
            raise
        return None
    try:
        with asking(base, key=key) as brief:
            ThroughProxy(brief).instances()
    except (NoProxyThere, NotDone) as error:
        if url is not None:
            raise
        if isinstance(error, NobodyThere):
            return None
        raise NothingDestroyed(f"{error}; nothing was changed; --direct asks vast.ai without it") from None
    return ThroughProxy(stack.enter_context(asking(base, key=key, read_timeout_s=READ_TIMEOUT_S)))


def _destroy(chosen: Sequence[tuple[Account, Doomed]], console: Console | None) -> Iterator[dict[str, Any]]:
    for account, each in chosen:
        try:
            account.destroy(each.id)
        except VastproxyError as error:
            if error.exit_code == 3:  # the key is refused, and will be for the others
                raise
            yield {"id": each.id, "destroyed": False, "error": str(error)}
            continue
        if console is not None:
            render.line(console, f"instance {each.id} is destroyed")
        yield {"id": each.id, "destroyed": True}


def _of(instance: Instance) -> Doomed:
    return Doomed(
        instance.id,
        _gpus(instance.num_gpus, instance.gpu_name),
        instance.hourly_cost,
        render.clean(instance.label or instance.template_name or ""),
    )


def _of_row(row: dict[str, Any]) -> Doomed:
    cost = row.get("hourly_cost")
    return Doomed(
        int(row.get("id") or 0),
        _gpus(row.get("num_gpus"), row.get("gpu_name")),
        cost if isinstance(cost, (int, float)) else None,
        render.clean(str(row.get("label") or "")),
    )


def _gpus(count: object, name: object) -> str:
    return render.clean(f"{count or '?'}x {name or 'GPU'}")
