"""What a request asks for, read from its head and its body: the model, the session, who should serve it, how urgently.

The body of nearly every request has come whole when it is read. Of one that comes in pieces as much is awaited as it
takes to know the model, but only where engines differ in what they serve: elsewhere the engine may say what it thinks
of the model, and the first bytes are on their way sooner.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

from vastproxy.api.http.request import Request
from vastproxy.services.access.callers import Caller
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.routing.asked import Asked
from vastproxy.services.routing.form import boundary_of
from vastproxy.services.routing.hints import Hints
from vastproxy.services.routing.peek import PARSED_BYTES, Peek, peek
from vastproxy.services.routing.policy import Hint
from vastproxy.services.routing.short import read_short
from vastproxy.services.routing.ticket import Priority, priority_of
from vastproxy.settings.routing import RoutingSettings

#: Of a body that comes in pieces so much is held until its model is known. Images stand before the model where a
#: client writes `messages` first.
MODEL_WITHIN_BYTES = 16 << 20
_MAX_PIN_DIGITS = 18
_JSON = b"application/json"


class HeadWish(NamedTuple):
    """What a head alone says."""

    session: int | None
    pin: int | None
    priority: Priority
    content_type: bytes
    is_json: bool


class Wishes:
    """Reads requests. Its hashes of prompts and sessions compare with no other's."""

    def __init__(self, settings: RoutingSettings) -> None:
        self._hints = Hints(os.urandom(16))
        self._header = settings.session_header.lower().encode() if settings.session_header else None
        self._cookie = settings.session_cookie

    def read_head(self, claim: Claim, request: Request) -> HeadWish:
        """Note what the head says; it is found out once for all requests that begin alike."""
        wish = request.facts.wish
        if wish.__class__ is not HeadWish:
            wish = request.facts.wish = self._of_head(request)
        assert isinstance(wish, HeadWish)
        claim.priority = wish.priority
        if isinstance(caller := request.facts.admitted_by, Caller):
            claim.asker = caller.id
            if caller.priority > wish.priority:  # never before what the key is entitled to
                claim.priority = caller.priority
        if wish.session is not None or wish.pin is not None:
            claim.hint = Hint((), wish.session, wish.pin)
        return wish

    def read_body(self, claim: Claim, wish: HeadWish, body: bytes) -> None:
        """Note what a whole body says."""
        if wish.is_json and len(body) <= PARSED_BYTES:
            asked = read_short(body, self._hints)
        else:
            asked = peek(body, self._hints, wish.content_type)
        self._note(claim, wish, asked)

    def begin(self, wish: HeadWish) -> Peek:
        """A reader for a body that comes in pieces."""
        return Peek(self._hints, wish.content_type)

    def read_pieces(self, claim: Claim, wish: HeadWish, reader: Peek) -> None:
        """Note what has come so far says."""
        self._note(claim, wish, reader.asked)

    def _note(self, claim: Claim, wish: HeadWish, asked: Asked) -> None:
        if not asked.readable:
            return
        claim.model = asked.model or None
        claim.stream = asked.stream
        hint = asked.hint
        if wish.session is not None or wish.pin is not None:
            hint = Hint(hint.prefix, hint.session if wish.session is None else wish.session, wish.pin)
        claim.hint = hint

    def _of_head(self, request: Request) -> HeadWish:
        known, kind = request.known, content_type(request)
        return HeadWish(
            self._session(request),
            _pin(known.get(b"x-vastproxy-instance", (b"",))[-1]),
            priority_of(known.get(b"x-vastproxy-priority", (None,))[-1]),
            kind,
            boundary_of(kind) is None,
        )

    def _session(self, request: Request) -> int | None:
        if self._header is None and self._cookie is None:
            return None
        headers = request.headers
        name = dict(headers).get(self._header) if self._header is not None else None
        if not name and self._cookie is not None:
            name = _cookie((value for key, value in headers if key == b"cookie"), self._cookie)
        return self._hints.session(name.decode("latin-1")) if name else None


def content_type(request: Request) -> bytes:
    """Of its body. One that does not say is taken for JSON."""
    return request.known.get(b"content-type", (_JSON,))[-1]


def _pin(value: bytes) -> int | None:
    """A pin that is no id is no pin."""
    return int(value) if value.isdigit() and len(value) <= _MAX_PIN_DIGITS else None


def _cookie(headers: Iterable[bytes], name: str) -> bytes:
    """The value of a cookie. What other cookies look like does not matter: browsers send much that is against RFC 6265,
    for which `http.cookies` would drop them all."""
    wanted = name.encode()
    for pair in b";".join(headers).split(b";"):
        key, _, value = pair.partition(b"=")
        if key.strip() == wanted:
            return value.strip().strip(b'"')
    return b""
