"""Which web pages may reach a proxy that asks nobody for a key: none, unless they are listed.

A browser is the one client that asks on behalf of strangers. It says so in headers that pages cannot forge: `Origin`
(RFC 6454, fetch.spec.whatwg.org) and `Sec-Fetch-Site` (w3.org/TR/fetch-metadata), and `Host` is the name by which the
page knows us. A page that has its own name lead to 127.0.0.1 is of the same origin as the proxy (DNS rebinding), and
there only the name is wrong. With keys nothing of this is needed: no page has one.
"""

from collections.abc import Iterable, Mapping, Sequence

from vastproxy.api.errors import ApiError
from vastproxy.services.http1.grammar import Header
from vastproxy.settings.listen import is_loopback, parse_listen
from vastproxy.settings.model import ServerSettings

#: The request headers that are read here, besides `host`.
_READ = frozenset({b"origin", b"sec-fetch-site", b"sec-fetch-mode"})
#: What of a stranger's words an error repeats.
_SHOWN_BYTES = 100
#: Where what the browser calls the page is not another site: a bookmark, or a page of ours.
_NEAR = frozenset({b"none", b"same-origin"})
_LOOKING = frozenset({b"GET", b"HEAD"})


class Gate:
    """See the module's docstring. Every answer is the same for the same head, for as long as the keys are."""

    def __init__(self, settings: ServerSettings) -> None:
        host = parse_listen(settings.listen).host
        self._is_private = is_loopback(host) and not settings.insecure
        self._hosts = frozenset(name.encode() for name in settings.allowed_hosts)
        self._any_origin = "*" in settings.cors_origins
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)

    def refusal(
        self,
        method: bytes,
        host: bytes,
        known: Mapping[bytes, Sequence[bytes]],
        *,
        needs_key: bool,
        is_own: bool = False,
        is_admin: bool = False,
    ) -> ApiError | None:
        """Why this request is not answered, None when it may be. `known`: its headers, at least those read here, by
        name; `needs_key`: must whoever asks have one? `is_own`: is it for a page of ours, `is_admin`: for one that can
        change something?"""
        changes = is_admin and method not in _LOOKING
        if needs_key and not changes:
            return None
        if not needs_key and self._is_private and not self._is_ours(host):
            return host_not_allowed(host)
        origins = known.get(b"origin", ())
        if origins:
            if len(origins) == 1 and self._lets(origins[0].lower(), host, by_name=changes):
                return None
            return origin_not_allowed(origins[-1])
        site = known.get(b"sec-fetch-site", (b"none",))[-1]
        if site in _NEAR or (self._any_origin and not changes):
            return None
        # Without an origin: an image, a script, or a link. Who follows a link to a page of ours looks for himself.
        if is_own and method in _LOOKING and known.get(b"sec-fetch-mode", (b"",))[-1] == b"navigate":
            return None
        return origin_not_allowed(b"")

    def refusal_for(
        self,
        method: bytes,
        headers: Iterable[Header],
        *,
        needs_key: bool,
        is_own: bool = False,
        is_admin: bool = False,
    ) -> ApiError | None:
        """The same for headers that nobody has looked at yet, names in lower case."""
        known: dict[bytes, list[bytes]] = {}
        host = b""
        for name, value in headers:
            if name in _READ:
                known.setdefault(name, []).append(value)
            elif name == b"host":
                host = value
        return self.refusal(method, host, known, needs_key=needs_key, is_own=is_own, is_admin=is_admin)

    def _is_ours(self, host: bytes) -> bool:
        name = _name_of(host)
        if not name or name in self._hosts or b"*" in self._hosts:  # no browser leaves it out
            return True
        text = name.decode("latin-1")
        # `localhost` and all below it are this machine (RFC 6761 §6.3), whatever a name server says.
        return is_loopback(text) or text.endswith(".localhost")

    def _lets(self, origin: bytes, host: bytes, *, by_name: bool) -> bool:
        if origin in self._origins:
            return True
        if self._any_origin and not by_name:
            return True
        scheme, _, authority = origin.partition(b"://")
        # The scheme may be another one: who ends TLS before us speaks plain HTTP to us.
        return bool(authority) and authority == _authority_of(scheme, host)


def _name_of(host: bytes) -> bytes:
    """Without the port, in lower case."""
    name, colon, port = host.lower().rpartition(b":")
    if not colon or not (port.isdigit() or not port):
        name = host.lower()
    return name.rstrip(b".")


def _authority_of(scheme: bytes, host: bytes) -> bytes:
    """As a browser writes it in an origin: without the port that goes with the scheme."""
    usual = b":443" if scheme == b"https" else b":80"
    return host.lower().removesuffix(usual)


def origin_not_allowed(origin: bytes) -> ApiError:
    """A web page asks that may not."""
    who = f"the web page {_shown(origin)}" if origin else "a web page of another site"
    return ApiError(
        403,
        f"This came from {who}, which may not ask here. The operator can list its origin in server.cors_origins "
        "(VASTPROXY_SERVER__CORS_ORIGINS).",
        "invalid_request_error",
        "origin_not_allowed",
    )


def host_not_allowed(host: bytes) -> ApiError:
    """It is asked by a name that is not its own."""
    return ApiError(
        403,
        f"Nobody needs a key here, so only localhost and 127.0.0.1 are answered, not {_shown(host)}. The operator can "
        "list the name in server.allowed_hosts (VASTPROXY_SERVER__ALLOWED_HOSTS), or make keys with 'vastproxy keys "
        "create'.",
        "invalid_request_error",
        "host_not_allowed",
    )


def _shown(value: bytes) -> str:
    text = value[:_SHOWN_BYTES].decode("ascii", "replace")
    return "'" + "".join(character if character.isprintable() else "?" for character in text) + "'"
