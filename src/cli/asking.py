"""How commands ask a running proxy: where it is, which key it is sent, and what counts as an answer."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from requests.auth import AuthBase

from vastproxy.errors import VastproxyError
from vastproxy.settings import Loaded, SettingsError, is_loopback, parse_listen, resolve_secret

CONNECT_TIMEOUT_S = 3.0
#: The proxy answers from memory; a busy event loop may take a moment.
READ_TIMEOUT_S = 10.0
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^\s/:@?#\[\]]+)(:[0-9]{1,5})?(/[^\s?#]*)?")


class NoProxyThere(VastproxyError):
    """Nobody answers, or what answers is not vastproxy."""


def proxy_url(typed: str | None, loaded: Loaded) -> str:
    """The address of the proxy: as typed, or where the settings say that it listens."""
    if typed:
        return base_url(typed)
    server = loaded.settings.server
    return url_of_listen(server.listen, tls=server.tls_cert is not None)


def base_url(text: str) -> str:
    """The URL that somebody typed, with http:// in front if it has no scheme, without a slash at the end. The address
    for clients will do, which ends with /v1."""
    url = text.strip() if "://" in text else f"http://{text.strip()}"
    match = _URL.fullmatch(url)
    if match is None:
        raise SettingsError("URL (command line): expected http://host:port, without a password")
    path = match[4] or ""
    return url.removesuffix(path) + path.rstrip("/").removesuffix("/v1").rstrip("/")


def url_of_listen(listen: str, *, tls: bool = False) -> str:
    """Where to find a proxy that listens there: an address that means everywhere is asked on loopback."""
    address = parse_listen(listen)
    if address.port == 0:
        raise SettingsError(
            "server.listen has port 0, which means any; give the URL (http://host:port) on the command line"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"{'https' if tls else 'http'}://{address._replace(host=host)}"


def inbound_key(loaded: Loaded) -> str | None:
    """The key that the proxy is sent: the first of those that it is to accept."""
    keys = loaded.settings.server.api_keys
    if not keys:
        return None
    secret = resolve_secret(keys[0], environ=loaded.environ, name="server.api_keys")
    return secret.get_secret_value() if secret else None


class NobodyThere(NoProxyThere):
    """Nobody listens at that address: the connection was refused. All else may be a proxy that is ill."""


class Asker:
    """Asks one proxy. Made by `asking`."""

    def __init__(self, session: requests.Session, base: str, read_timeout_s: float) -> None:
        self._session = session
        self.base = base
        self._read_timeout_s = read_timeout_s

    def get(self, path: str) -> requests.Response:
        """What the proxy answers, whatever its status. Raises NoProxyThere when nobody does."""
        return self._send("GET", path)

    def post(
        self, path: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """The same for JSON that is sent; without `body` an order without more to say."""
        return self._send("POST", path, body, {"Content-Type": "application/json", **(headers or {})})

    @contextmanager
    def stream(self, path: str, *, accept: str) -> Iterator[requests.Response]:
        """What the proxy answers, while it still does: its head is there, its body is not read yet. Raises NoProxyThere
        when nobody answers; reading on raises what `requests` raises."""
        with self._send("GET", path, headers={"Accept": accept}, stream=True) as response:
            yield response

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response:
        base = self.base
        try:
            # Not following redirects keeps the key where it was meant to go.
            return self._session.request(
                method,
                base + path,
                data=body,
                timeout=(CONNECT_TIMEOUT_S, self._read_timeout_s),
                allow_redirects=False,
                stream=stream,
                headers={"Accept": "application/json", **(headers or {})},
            )
        except requests.exceptions.ReadTimeout:
            raise NoProxyThere(f"{base} does not answer within {self._read_timeout_s:g} s") from None
        except requests.exceptions.SSLError:
            raise NoProxyThere(
                f"no trusted TLS connection to {base}; give the URL with the name in the certificate, set "
                "REQUESTS_CA_BUNDLE to the file of who signed it, or ask with http://"
            ) from None
        except (requests.RequestException, ValueError) as error:  # a name that cannot be one is a ValueError
            kind = NobodyThere if _is_refused(error) else NoProxyThere
            raise kind(f"nothing answers at {base}; is `vastproxy serve` running?") from None
        except OSError as error:  # a file of certificates that is not there is not requests' own error
            raise NoProxyThere(f"{base} cannot be asked: {error}") from None

    def object(self, response: requests.Response) -> dict[str, Any]:
        """The JSON object that was answered. Raises NoProxyThere for anything else."""
        try:
            content = response.json()
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise NoProxyThere(
                f"what answers at {self.base} is not vastproxy "
                f"(HTTP {response.status_code} without a JSON object); check the URL"
            )
        return content


@contextmanager
def asking(
    base: str,
    *,
    key: str | None,
    read_timeout_s: float = READ_TIMEOUT_S,
    is_own: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[Asker]:
    """Ask the proxy at `base` (as `base_url` makes it) with this key, or with none. `is_own`: it is a process of ours
    on this machine, whose certificate need not be for the address by which we reach it. `environ` names who else is
    trusted to sign certificates, as `requests` has it."""
    with requests.Session() as session:
        match = _URL.fullmatch(base)
        # A proxy from the environment would not reach our own loopback address.
        session.trust_env = not is_own and (match is None or not is_loopback(match[2]))
        # It would also not tell whose signature is to be trusted.
        trusted = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True
        session.verify = False if is_own else trusted
        session.auth = _Bearer(key)
        yield Asker(session, base, read_timeout_s)


def _is_refused(error: BaseException) -> bool:
    """Is it that nobody listens? An HTTP proxy on the way that is not there tells nothing about the address."""
    if isinstance(error, requests.exceptions.ProxyError):
        return False
    found: BaseException | None = error
    while found is not None and not isinstance(found, ConnectionRefusedError):
        found = found.__cause__ or found.__context__
    return found is not None


class _Bearer(AuthBase):
    """Sends our key or none. As an auth object it keeps requests from sending what ~/.netrc says instead."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request
