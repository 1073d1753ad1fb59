"""`Forwarded` (RFC 7239) and the `X-Forwarded-*` that came before it: what an engine is told of the client."""

from collections.abc import Mapping, Sequence
from typing import Literal

from vastproxy.api.client import Client
from vastproxy.api.http.request import Request

Mode = Literal["append", "replace", "remove"]

_NAMES = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
#: Clients whose lines are kept ready, and the longest that are; a host may be as long as a head.
_KEPT = 1024
_KEPT_BYTES = 512


class Forwarding:
    """`append` adds the client to what it brought, `replace` believes nothing it brought, `remove` tells nothing."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._usual: dict[tuple[str, str, bytes], bytes] = {}

    def lines(self, request: Request, client: Client) -> bytes:
        """The header lines for the engine. They stand instead of everything of these names that the client sent."""
        if self._mode == "remove":
            return b""
        if self._mode == "append" and not _NAMES.isdisjoint(request.known):
            return self._lines(request, client)
        key = client.peer, client.scheme, request.host
        lines = self._usual.get(key)
        if lines is None:
            lines = self._lines(request, client)
            if len(lines) <= _KEPT_BYTES:
                if len(self._usual) >= _KEPT:
                    self._usual.clear()
                self._usual[key] = lines
        return lines

    def _lines(self, request: Request, client: Client) -> bytes:
        peer = client.peer.encode("latin-1", "replace") or b"unknown"
        scheme = client.scheme.encode("ascii")
        known: Mapping[bytes, Sequence[bytes]] = request.known if self._mode == "append" else {}
        before = filter(None, known.get(b"x-forwarded-for", ()))
        proto = known[b"x-forwarded-proto"][-1] if b"x-forwarded-proto" in known else scheme
        host = known[b"x-forwarded-host"][-1] if b"x-forwarded-host" in known else request.host
        lines = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (b", ".join((*before, peer)), proto)
        if host:
            lines += b"x-forwarded-host: %b\r\n" % host
        if b"forwarded" in known:
            node = b'"[%b]"' % peer if b":" in peer else peer
            element = b"for=%b;proto=%b" % (node, scheme)
            lines += b"forwarded: %b\r\n" % b", ".join((*filter(None, known[b"forwarded"]), element))
        return lines
