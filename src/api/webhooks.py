"""`POST /webhooks/vastai`: events from vast.ai and from instances. Whether one is real is decided in
`vastai.handlers.webhooks`, what it means in `vastai.handlers.events`; here it is only read and answered."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from vastproxy.api.errors import ApiError
from vastproxy.settings import SettingsError, resolve_secret
from vastproxy.settings.webhooks import WebhookSettings
from vastproxy.vastai.handlers.events import Decision, Verdict, decide
from vastproxy.vastai.handlers.webhooks import MAX_BODY_BYTES, Inbox, WebhookRefused, too_large

logger = logging.getLogger(__name__)

#: Refusals are written once in this time: anybody who reaches us can be refused as often as he likes.
_TELL_EVERY_S = 60.0


class Hearer(Protocol):
    """Who acts on events: the fleet."""

    @property
    def backend_ids(self) -> tuple[int, ...]:
        """The instances that are served."""
        ...

    def hear(self, decision: Decision) -> None:
        """Begin to do what was decided. Must not wait for anything."""
        ...


def make_inbox(settings: WebhookSettings, *, environ: Mapping[str, str]) -> Inbox:
    """The inbox that the settings describe. Raises SettingsError when a reference to a secret leads nowhere."""
    secret = resolve_secret(settings.secret, environ=environ, name="webhooks.secret")
    token = resolve_secret(settings.token, environ=environ, name="webhooks.token")
    if secret is not None and token is not None and secret == token:
        raise SettingsError(
            "webhooks.token: expected another one than webhooks.secret, with which rented machines could sign events"
        )
    return Inbox(
        secret=None if secret is None else secret.get_secret_value(),
        token=None if token is None else token.get_secret_value(),
        tolerance_s=settings.tolerance_s,
        remembered=settings.remembered_events,
    )


class WebhookEndpoint:
    """Answers at once: 200 when an event was understood, also when there is nothing to do or it was heard before."""

    def __init__(self, hearer: Hearer, inbox: Inbox, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells seconds since 1970."""
        self._hearer = hearer
        self._inbox = inbox
        self._clock = clock
        self._refusals = 0
        self._told_at = float("-inf")

    async def receive(self, request: Request) -> Response:
        """One event."""
        try:
            body = await _read(request)
            notice = self._inbox.take(request.scope["headers"], body, now=self._clock())
        except WebhookRefused as refusal:
            self._tell(refusal)
            return _refused(refusal)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        if notice is None:
            return JSONResponse({"received": True, "duplicate": True, "verdict": Verdict.NOTHING})
        decision = decide(notice, self._hearer.backend_ids)
        ids = " ".join(str(one) for one in decision.instance_ids)
        logger.info("event: %s → %s%s", decision.reason, decision.verdict, f" {ids}" if ids else "")
        if decision.verdict is not Verdict.NOTHING:
            self._hearer.hear(decision)
        return JSONResponse({"received": True, "duplicate": False, "verdict": decision.verdict})

    def _tell(self, refusal: WebhookRefused) -> None:
        self._refusals += 1
        now = self._clock()
        if not 0 <= now - self._told_at < _TELL_EVERY_S:
            logger.warning("%d events were refused; the last: %s (%s)", self._refusals, refusal, refusal.code)
            self._told_at, self._refusals = now, 0


async def _read(request: Request) -> bytes:
    """The body; one that is too large is not read to its end. Raises WebhookRefused, ClientDisconnect."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise too_large()
    return bytes(body)


def _refused(refusal: WebhookRefused) -> Response:
    kind = "authentication_error" if refusal.http_status == 401 else "invalid_request_error"
    error = ApiError(refusal.http_status, f"{refusal}.".replace("?.", "?"), kind, refusal.code)
    body = error.body()
    headers = {name.decode(): value.decode() for name, value in error.headers(len(body))}
    return Response(body, refusal.http_status, headers=headers)
