"""How commands read the ledger: told by a running proxy, or straight from its file."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from vastproxy.cli.asking import NoProxyThere, asking, inbound_key, proxy_url
from vastproxy.errors import VastproxyError
from vastproxy.services.ledger.ledger import said
from vastproxy.services.ledger.place import ledger_path
from vastproxy.services.ledger.schema import UnusableLedger
from vastproxy.services.ledger.store import open_to_read
from vastproxy.settings import Loaded

T = TypeVar("T")

LedgerFile = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", help="Read this ledger instead of asking a proxy.", show_default=False
    ),
]


class NoLedger(VastproxyError):
    """There is no ledger to be read, or we may not."""


class NotForUs(NoLedger):
    """The proxy tells it to others."""


def look_up(
    loaded: Loaded,
    url: str | None,
    file: Path | None,
    *,
    path: str,
    read: Callable[[sqlite3.Connection], dict[str, Any]],
) -> tuple[dict[str, Any], str]:
    """What a proxy tells at `path`, or `read` finds in the file; and where that is from, for a person. Without a URL or
    a file, the proxy of the settings is asked first, and its file read where that does not answer. Raises NoLedger,
    NoProxyThere, SettingsError, and typer's BadParameter for both."""
    if file is not None and url is not None:
        raise typer.BadParameter("URL names a proxy, and --file a ledger: give one of them")
    if file is not None:
        return read_file(file, read), str(file)
    kept = ledger_path(loaded.settings, loaded.environ)
    may_read = url is None and kept is not None and _may_be_there(kept)
    try:
        base = proxy_url(url, loaded)
        return ask(base, path, key=inbound_key(loaded)), base
    except (NoProxyThere, NotForUs):
        if not may_read:
            raise
        assert kept is not None
        return read_file(kept, read), f"{kept} (no proxy answers us)"


def _may_be_there(path: Path) -> bool:
    """Also where we may not look: reading it tells why."""
    try:
        return path.exists()
    except OSError:
        return True


def ask(base: str, path: str, *, key: str | None) -> dict[str, Any]:
    """What the proxy at `base` tells. Raises NoProxyThere, NoLedger."""
    with asking(base, key=key) as proxy:
        answer = proxy.get(path)
        if answer.status_code in (401, 403):
            raise NotForUs(f"{base} tells what it costs only to holders of a key: set VASTPROXY_API_KEYS")
        content = proxy.object(answer)
    if answer.status_code != 200:
        error = content.get("error")
        told = error.get("message") if isinstance(error, dict) else None
        raise NoLedger(f"{base} does not tell it: {told or f'HTTP {answer.status_code}'}")
    return content


def read_file(path: Path, read: Callable[[sqlite3.Connection], T]) -> T:
    """What `read` finds in the file. Raises NoLedger."""
    try:
        connection = open_to_read(path)
        try:
            return read(connection)
        finally:
            connection.close()
    except (OSError, sqlite3.Error, UnusableLedger) as error:
        raise NoLedger(f"the ledger {path} cannot be read: {said(error)}") from None
