"""What browsers are told: which pages may ask (CORS, fetch.spec.whatwg.org), and to come back over HTTPS (RFC 6797).

Without settings nothing is told, and nothing of this is looked at.
"""

import re
from collections.abc import Iterable
from typing import Any

from starlette.types import Message, Send

from vastproxy.api.client import Client
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import lines_of
from vastproxy.services.upstream.relay import ChunkClient
from vastproxy.settings.exposure import Exposure

_METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
#: What a page may read of an answer, besides what it always may.
_EXPOSED = (
    b"retry-after, x-request-id, x-vastproxy-instance, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, "
    b"x-ratelimit-reset-tokens"
)
_MAX_AGE_S = b"600"
#: Names of headers that a page wants to send: they are repeated to it, and so must be nothing else.
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,2048}")


class Browsers:
    """See the module's docstring."""

    def __init__(self, settings: Exposure) -> None:
        self._any = "*" in settings.cors_origins
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._hsts: list[Header] = []
        if settings.hsts_max_age_s:
            self._hsts = [(b"strict-transport-security", b"max-age=%d" % settings.hsts_max_age_s)]
        self.told = bool(self._origins or self._hsts)
        """Is there anything to tell at all? If not, nobody need ask."""

    def headers(self, scheme: str, asked: Iterable[Header]) -> list[Header] | None:
        """What to add to the answer to a request with the headers `asked`; None: nothing, and it can stay as it is."""
        added = list(self._hsts) if scheme == "https" else []
        origin = _only(asked, b"origin") if self._origins else None
        if origin is not None:
            added.append((b"vary", b"origin"))
            if self._lets(origin):
                added += [
                    (b"access-control-allow-origin", b"*" if self._any else origin),
                    (b"access-control-expose-headers", _EXPOSED),
                ]
        return added or None

    def preflight(self, method: bytes, asked: Iterable[Header]) -> list[Header] | None:
        """The headers of the answer (204) to a browser that asks whether it may ask; None: this is no such question, or
        the page may not. A browser sends no key with it."""
        if method != b"OPTIONS" or not self._origins:
            return None
        headers = list(asked)
        origin = _only(headers, b"origin")
        if (
            origin is None
            or not self._lets(origin)
            or _only(headers, b"access-control-request-method") is None
        ):
            return None
        told = [
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", _MAX_AGE_S),
            (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
        ]
        names = _only(headers, b"access-control-request-headers")
        if names is not None and _NAMES.fullmatch(names):
            told.append((b"access-control-allow-headers", names))
        return told

    def _lets(self, origin: bytes) -> bool:
        return self._any or origin.lower() in self._origins


class Told:
    """A `Client` whose answers get more headers."""

    __slots__ = (
        "_client",
        "_lines",
        "break_off",
        "finish",
        "interim",
        "pause_reading",
        "resume_reading",
        "send",
        "switch",
    )

    def __init__(self, client: Client, headers: Iterable[Header]) -> None:
        self._client = client
        self._lines = lines_of(headers)
        # All else is the client's own, at no cost for each token.
        self.interim = client.interim
        self.send = client.send
        self.finish = client.finish
        self.break_off = client.break_off
        self.pause_reading = client.pause_reading
        self.resume_reading = client.resume_reading
        self.switch = client.switch

    @property
    def peer(self) -> str:
        return self._client.peer

    @property
    def scheme(self) -> str:
        return self._client.scheme

    @property
    def write_paused(self) -> bool:
        return self._client.write_paused

    @property
    def chunks(self) -> ChunkClient | None:
        return self._client.chunks

    def respond(self, status: int, lines: bytes, **options: Any) -> None:
        """See `Client.respond`."""
        self._client.respond(status, self._lines + lines, **options)


def told(send: Send, headers: Iterable[Header]) -> Send:
    """The same for an ASGI application."""
    added = list(headers)

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*added, *message.get("headers", ())]}
        await send(message)

    return tell


class Answered:
    """A `Handler` for a request that is answered at once, without a body."""

    def __init__(self, client: Client, status: int, headers: Iterable[Header]) -> None:
        self._client = client
        self._status = status
        self._headers = list(headers)
        self._over = False

    def begin(self, data: bytes, *, complete: bool) -> None:
        """See `Handler.begin`."""
        if not self._over:
            self._over = True
            self._client.respond(self._status, lines_of(self._headers), length=0, has_body=False, last=True)

    def client_data(self, data: bytes, *, complete: bool) -> None:
        """Nobody reads it."""

    def client_writable(self) -> None:
        """There is nothing more to write."""

    def client_left(self) -> None:
        """See `Handler.client_left`."""
        self._over = True

    def client_failed(self, error: Any) -> None:
        """It was answered already."""


def _only(headers: Iterable[Header], name: bytes) -> bytes | None:
    """The value of a header that comes once."""
    values = [value for found, value in headers if found == name]
    return values[0] if len(values) == 1 else None
