"""`vastproxy keys`: makes, lists and revokes the keys that clients send."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from vastproxy.cli import render
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.errors import VastproxyError
from vastproxy.services.access.keyfile import edit_keys, keys_path, read_keys
from vastproxy.services.access.records import (
    MAX_CONCURRENT,
    MAX_GLOB_CHARS,
    MAX_PER_MIN,
    KeyBook,
    KeyLimits,
    KeyRecord,
    Right,
    UnreadableKeys,
    iso,
)
from vastproxy.services.access.usefile import read_use, use_path
from vastproxy.settings import Loaded, SettingsError, load

keys_app = typer.Typer(
    name="keys",
    help="Make, list and revoke the keys that clients send.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_EXPIRES = re.compile(r"([1-9][0-9]{0,5})(min|h|d|w)")
_UNIT_S = {"min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST_S = 100 * 366 * 86_400


class NotRevoked(VastproxyError):
    """The person did not want it after all."""


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="What it is called in logs and metrics, such as web.")
]
Admin = Annotated[
    bool,
    typer.Option(
        "--admin", help="For the proxy itself (status, dashboard, metrics) instead of for inference."
    ),
]
Inference = Annotated[bool, typer.Option("--inference", help="With --admin: for inference, too.")]
Rpm = Annotated[
    int | None,
    typer.Option("--rpm", metavar="N", min=1, max=MAX_PER_MIN, help="Most requests per minute."),
]
Concurrent = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=MAX_CONCURRENT, help="Most requests at the same time."),
]
Tpm = Annotated[
    int | None,
    typer.Option(
        "--tpm", metavar="N", min=1, max=MAX_PER_MIN, help="Most tokens per minute, prompts and answers."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="GLOB", help="Only models like this, such as 'llama-*'; repeatable."),
]
Priority = Annotated[
    Literal["interactive", "batch"], typer.Option(help="Class of its requests when they have to wait.")
]
Expires = Annotated[
    str | None, typer.Option(metavar="IN", help="Until when it is good: 90min, 12h, 30d or 4w from now.")
]


@keys_app.command("create")
def create(
    name: Name,
    admin: Admin = False,
    inference: Inference = False,
    rpm: Rpm = None,
    concurrent: Concurrent = None,
    tpm: Tpm = None,
    models: Models = None,
    priority: Priority = "interactive",
    expires: Expires = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once.

    Only its SHA-256 is kept, so nobody can print it again. A running proxy accepts it at once. The key is all that
    goes to standard output.

    Examples:

      vastproxy keys create web --rpm 600 --model 'llama-*'

      vastproxy keys create nightly --priority batch --concurrent 50 --expires 30d

      vastproxy keys create dashboard --admin
    """
    file = keys_file(load(config_path=config))
    now = time.time()
    rights = frozenset({Right.ADMIN}) if admin else frozenset({Right.INFERENCE})
    if inference:
        rights |= {Right.INFERENCE}
    limits = KeyLimits(
        requests_per_min=rpm,
        concurrent=concurrent,
        tokens_per_min=tpm,
        models=globs(models or ()),
        priority=priority,
    )
    until = None if expires is None else now + seconds_of(expires)

    def add(book: KeyBook) -> tuple[KeyBook, tuple[KeyRecord, str, bool]]:
        edited, record, key = book.create(name, rights=rights, limits=limits, now=now, expires_at=until)
        return edited, (record, key, not book.keys)

    try:
        record, key, is_first = edit_keys(file, add)
    except UnreadableKeys as error:
        raise unusable(file, error) from None
    if as_json:
        typer.echo(json.dumps({"key": key, **described(record, now)}, indent=2))
        return
    typer.echo(key)
    typer.echo(f"{summary(record)}. It cannot be shown again.", err=True)
    if is_first:
        typer.echo("It is the first one: from now on a proxy with these settings asks for a key.", err=True)


@keys_app.command("list")
def list_(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the keys: how they begin, what they may do, and whether they have expired.

    Keys from the settings (VASTPROXY_API_KEYS) are not among them. When a key was last used is known to a minute, and
    only where the proxy can write beside the file.

    Example:

      vastproxy keys list --json
    """
    file = keys_file(load(config_path=config))
    used = read_use(use_path(file))
    rows = [
        {**described(record, time.time()), "last_used_at": _iso(used.get(record.prefix))}
        for record in stored(file).keys
    ]
    if as_json:
        typer.echo(json.dumps({"file": str(file), "keys": rows}, indent=2))
    elif rows:
        render.stdout().print(table(rows))
    else:
        render.line(render.stdout(), f"no keys in {file}; make one with: vastproxy keys create NAME")


@keys_app.command("revoke")
def revoke(
    wanted: Annotated[
        str,
        typer.Argument(metavar="KEY", help="Its name, how it begins (vp-…), or the key itself."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Revoke without asking.")] = False,
    config: ConfigFile = None,
) -> None:
    """Make a key worthless, for good.

    A running proxy refuses its next request; answers that are under way still come.

    Examples:

      vastproxy keys revoke web

      vastproxy keys revoke vp-Zk3v9Q --yes
    """
    file = keys_file(load(config_path=config))
    record = stored(file).find(wanted)
    if not (yes or typer.confirm(f"Revoke {summary(record)}?", default=False)):
        raise NotRevoked("nothing was changed")

    def remove(book: KeyBook) -> tuple[KeyBook, int]:
        left = book.without(book.find(record.prefix))
        return left, len(left.keys)

    try:
        left = edit_keys(file, remove)
    except UnreadableKeys as error:
        raise unusable(file, error) from None
    console = render.stdout()
    render.line(console, f"revoked {record.name} ({record.prefix}…)")
    if not left:
        render.line(
            console,
            "it was the last one: a key is asked for all the same. To serve this machine without keys again, "
            f"stop the proxy, delete {file} and start it",
        )


def keys_file(loaded: Loaded) -> Path:
    """Where the keys are kept. Raises SettingsError where there is no place."""
    path = keys_path(loaded.settings, loaded.environ)
    if path is None:
        raise SettingsError("there is no home directory to keep keys in; set server.keys_file")
    return path


def stored(file: Path) -> KeyBook:
    """The keys as they are now. Raises SettingsError when the file holds something else."""
    try:
        return read_keys(file) or KeyBook()
    except UnreadableKeys as error:
        raise unusable(file, error) from None


def unusable(file: Path, error: UnreadableKeys) -> SettingsError:
    return SettingsError(f"the keys in {file} cannot be used: {error}")


def seconds_of(text: str) -> float:
    """`90min`, `12h`, `30d` or `4w`. Raises SettingsError for anything else."""
    found = _EXPIRES.fullmatch(text.strip().lower())
    seconds = 0.0 if found is None else float(int(found[1]) * _UNIT_S[found[2]])
    if not 0 < seconds <= _LONGEST_S:
        raise SettingsError(f"--expires: expected 90min, 12h, 30d or 4w, got {text[:60]!r}")
    return seconds


def globs(written: Sequence[str]) -> tuple[str, ...]:
    """The patterns of models. Raises SettingsError for one that is empty or no name could be so long."""
    for glob in written:
        if not 0 < len(glob) <= MAX_GLOB_CHARS:
            raise SettingsError(f"--model: expected a pattern of 1 to {MAX_GLOB_CHARS} characters")
    return tuple(written)


def described(record: KeyRecord, now: float) -> dict[str, Any]:
    """A key for programs: all that is known but its digest."""
    row = record.model_dump(mode="json", exclude={"sha256"})
    return {**row, "expired": record.is_expired(now)}


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)


def summary(record: KeyRecord) -> str:
    """One line about a key."""
    until = "" if record.expires_at is None else f", good until {iso(record.expires_at)}"
    rights = " and ".join(sorted(record.rights))
    return f"{record.name} ({record.prefix}…): {rights}{until}"


def table(rows: list[dict[str, Any]]) -> Table:
    """The keys for people."""
    made = Table(box=None, pad_edge=False)
    for column in ("Name", "Begins", "Rights", "Limits", "Created", "Last used", "Expires"):
        made.add_column(column, overflow="fold")
    for row in rows:
        expires = row["expires_at"] or "never"
        made.add_row(
            row["name"],
            row["prefix"],
            "\n".join(row["rights"]),
            "\n".join(limits_of(row["limits"])) or "-",
            row["created_at"],
            row["last_used_at"] or "-",
            f"{expires} (expired)" if row["expired"] else expires,
        )
    return made


def limits_of(limits: dict[str, Any]) -> list[str]:
    """What a key may use, in words."""
    words = [
        f"{limits[name]} {unit}"
        for name, unit in (
            ("requests_per_min", "requests/min"),
            ("concurrent", "at a time"),
            ("tokens_per_min", "tokens/min"),
        )
        if limits[name] is not None
    ]
    words += [f"model {render.clean(model)}" for model in limits["models"]]
    return [*words, "batch"] if limits["priority"] == "batch" else words
