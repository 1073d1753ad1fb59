"""`vastproxy status`: asks a running proxy how it is."""

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

import requests
import typer
from requests.auth import AuthBase

from vastproxy.cli import render
from vastproxy.cli.options import AsJson, ConfigFile
from vastproxy.errors import VastproxyError
from vastproxy.settings import Loaded, SettingsError, is_loopback, load, parse_listen, resolve_secret

CONNECT_TIMEOUT_S = 3.0
#: The proxy answers from memory; a busy event loop may take a moment.
READ_TIMEOUT_S = 10.0
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^\s/:@?#\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?")


class NoProxyThere(VastproxyError):
    """Nobody answers, or what answers is not vastproxy."""


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
) -> None:
    """Ask a running proxy how it is.

    Shows the proxy, its connection to vast.ai, and each backend with its engine, models and GPUs.
    Exits with 0 if it can serve (healthy or degraded), with 1 if it cannot or nothing answers.
    """
    loaded = load(config_path=config)
    base = base_url(url) if url else url_of_listen(loaded.settings.server.listen)
    answer = ask(base, key=_inbound_key(loaded))
    if as_json:
        shown = {"url": answer.url, "health": answer.health, "backends": answer.backends, "note": answer.note}
        typer.echo(json.dumps(shown, indent=2))
    else:
        render.status(render.stdout(), answer.url, answer.health, answer.backends, answer.note)
    if not answer.serves:
        raise typer.Exit(1)


def base_url(text: str) -> str:
    """The URL that somebody typed, with http:// in front if it has no scheme, without a slash at the end."""
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    if not _URL.fullmatch(url):
        raise SettingsError("URL (command line): expected http://host:port, without a password")
    return url.rstrip("/")


def url_of_listen(listen: str) -> str:
    """Where to find a proxy that listens there: an address that means everywhere is asked on loopback."""
    address = parse_listen(listen)
    if address.port == 0:
        raise SettingsError(
            "server.listen has port 0, which means any; give the URL: vastproxy status http://host:port"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"http://{address._replace(host=host)}"


def ask(base: str, *, key: str | None, read_timeout_s: float = READ_TIMEOUT_S) -> Answer:
    """Fetch health and backends from a proxy. Raises NoProxyThere when there is none."""
    with requests.Session() as session:
        match = _URL.fullmatch(base)
        # A proxy from the environment would not reach our own loopback address.
        session.trust_env = match is None or not is_loopback(match[2])
        session.auth = _Bearer(key)
        health = _object(_get(session, base, "/healthz", read_timeout_s), base)
        listing = _get(session, base, "/vastproxy/v1/backends", read_timeout_s)
    if listing.status_code in (401, 403):
        note = "the proxy lists its backends only to holders of a key: set VASTPROXY_API_KEYS"
        return Answer(base, health, None, note)
    if listing.status_code != 200:
        note = f"the proxy does not list its backends (HTTP {listing.status_code})"
        return Answer(base, health, None, note)
    backends = _object(listing, base).get("backends")
    rows = [row for row in backends if isinstance(row, dict)] if isinstance(backends, list) else []
    return Answer(base, health, rows)


class _Bearer(AuthBase):
    """Sends our key or none. As an auth object it keeps requests from sending what ~/.netrc says instead."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _inbound_key(loaded: Loaded) -> str | None:
    keys = loaded.settings.server.api_keys
    if not keys:
        return None
    secret = resolve_secret(keys[0], environ=loaded.environ, name="server.api_keys")
    return secret.get_secret_value() if secret else None


def _get(session: requests.Session, base: str, path: str, read_timeout_s: float) -> requests.Response:
    try:
        # Not following redirects keeps the key where it was meant to go.
        return session.get(
            base + path,
            timeout=(CONNECT_TIMEOUT_S, read_timeout_s),
            allow_redirects=False,
            headers={"Accept": "application/json"},
        )
    except requests.exceptions.ReadTimeout:
        raise NoProxyThere(f"{base} does not answer within {read_timeout_s:g} s") from None
    except requests.exceptions.SSLError:
        raise NoProxyThere(
            f"no trusted TLS connection to {base}; check the certificate, or ask with http://"
        ) from None
    except (requests.RequestException, UnicodeError):
        raise NoProxyThere(f"nothing answers at {base}; is `vastproxy serve` running?") from None


def _object(response: requests.Response, base: str) -> dict[str, Any]:
    try:
        content = response.json()
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NoProxyThere(
            f"what answers at {base} is not vastproxy "
            f"(HTTP {response.status_code} without a JSON object); check the URL"
        )
    return content
