"""`Forwarded` (RFC 7239) and the `X-Forwarded-*` that came before it: what an engine is told of the client."""

from typing import Literal

from vastproxy.api.client import Client
from vastproxy.api.http.request import Request

Mode = Literal["append", "replace", "remove"]

_NAMES = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})


class Forwarding:
    """`append` adds the client to what it brought, `replace` believes nothing it brought, `remove` tells nothing."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode

    def lines(self, request: Request, client: Client) -> tuple[frozenset[bytes], bytes]:
        """Names that must not be sent on as they came, and the header lines that are sent instead."""
        if self._mode == "remove":
            return _NAMES, b""
        peer = client.peer.encode("latin-1", "replace") or b"unknown"
        scheme = client.scheme.encode("ascii")
        brought: dict[bytes, bytes] = {}
        if self._mode == "append":
            for name, value in request.headers:
                if name in _NAMES:
                    brought[name] = brought[name] + b", " + value if name in brought else value
        before = brought.get(b"x-forwarded-for")
        lines = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (
            before + b", " + peer if before else peer,
            brought.get(b"x-forwarded-proto", scheme),
        )
        host = brought.get(b"x-forwarded-host", request.host)
        if host:
            lines += b"x-forwarded-host: %b\r\n" % host
        if b"forwarded" in brought:
            node = b'"[%b]"' % peer if b":" in peer else peer
            lines += b"forwarded: %b, for=%b;proto=%b\r\n" % (brought[b"forwarded"], node, scheme)
        return _NAMES, lines
