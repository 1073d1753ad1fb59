"""Webhooks of one account: who is told of what, and what he is sent (vast.ai API docs, notification webhooks, 2026-08).

Nothing is sent from here: vast.ai delivers to public addresses only, and a simulation has none. What would be sent is
kept, signed as vast.ai signs it, for whoever wants to deliver it. Pure: the clock is an argument.
"""

import hashlib
import hmac
import json
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.payloads import JsonObject

#: At most so many for each user.
MAX_WEBHOOKS = 4
_FIRST_ID = 42
_USER_ID = 90_210
_NAMES: Mapping[str, str] = {
    "low_credit": "Low credit",
    "billing_failed": "Billing failed",
    "payment_receipt": "Payment receipt",
    "instance_created": "Instance created",
    "instance_started": "Instance started",
    "instance_stopped": "Instance stopped",
    "instance_offline": "Instance offline",
    "instance_online": "Instance online",
    "outbid": "Outbid",
    "upcoming_downtime": "Upcoming downtime",
}


def notification_types() -> list[JsonObject]:
    """What a webhook can subscribe to, as the API lists it."""
    return [
        {
            "key": f"client:{slug}",
            "slug": slug,
            "context": "client",
            "topic": "billing" if slug in ("low_credit", "billing_failed", "payment_receipt") else "instance",
            "display_name": name,
            "default_preferences": {"email": True, "webhooks": False},
            "mandatory_email": False,
        }
        for slug, name in _NAMES.items()
    ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one address."""

    webhook_id: int
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Hook:
    id: int
    name: str
    url: str
    event_types: list[str]
    created_at: float
    secret: str = field(repr=False)

    def to_json(self, *, with_secret: bool = False) -> JsonObject:
        row: JsonObject = {
            "id": self.id,
            "user_id": _USER_ID,
            "name": self.name,
            "webhook_url": self.url,
            "event_types": list(self.event_types),
            "created_at": self.created_at,
            "updated_at": self.created_at,
        }
        return {**row, "webhook_secret": self.secret} if with_secret else row


class Webhooks:
    """Who wants to be told. `deliveries`: what was sent to them, the oldest first; the last thousand."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` tells seconds since 1970."""
        self._clock = clock
        self._hooks: dict[int, _Hook] = {}
        self._next_id = _FIRST_ID
        self.deliveries: deque[Delivery] = deque(maxlen=1000)

    def __len__(self) -> int:
        return len(self._hooks)

    def rows(self) -> list[JsonObject]:
        """Without their secrets."""
        return [hook.to_json() for hook in self._hooks.values()]

    def create(self, body: JsonObject) -> JsonObject:
        """The new one with its secret. Raises Refusal (400)."""
        url, kinds = body.get("webhook_url"), body.get("event_types")
        if not isinstance(url, str) or not url.startswith("https://"):
            raise invalid_args("webhook_url must be a public https address")
        known = {kind["key"] for kind in notification_types()}
        if not isinstance(kinds, list) or not kinds or not set(map(str, kinds)) <= known:
            raise invalid_args("event_types must be keys of notification types")
        if len(self._hooks) >= MAX_WEBHOOKS:
            raise invalid_args(f"there are {MAX_WEBHOOKS} webhooks already")
        name = str(body.get("name") or "")
        hook = _Hook(self._next_id, name, url, [*map(str, kinds)], self._clock(), secrets.token_hex(32))
        self._hooks[hook.id] = hook
        self._next_id += 1
        return hook.to_json(with_secret=True)

    def rotate(self, id: int) -> JsonObject:
        """Another secret. Raises Refusal (404)."""
        hook = self._find(id)
        hook.secret = secrets.token_hex(32)
        return hook.to_json(with_secret=True)

    def delete(self, id: int) -> None:
        """Raises Refusal (404)."""
        del self._hooks[self._find(id).id]

    def send_test(self, id: int) -> None:
        """One event `webhook_test`. Raises Refusal (404)."""
        self._send(self._find(id), "webhook_test", "Webhook test", "This is a test delivery.")

    def tell(self, slug: str, subject: str, message: str = "") -> None:
        """Something has happened: whoever wants to know is told."""
        for hook in self._hooks.values():
            if f"client:{slug}" in hook.event_types:
                self._send(hook, slug, subject, message)

    def _find(self, id: int) -> _Hook:
        try:
            return self._hooks[id]
        except KeyError:
            raise Refusal(404, "not_found", f"Webhook {id} not found.") from None

    def _send(self, hook: _Hook, slug: str, subject: str, message: str) -> None:
        now = self._clock()
        event: dict[str, Any] = {
            "event_id": secrets.token_hex(16),
            "user_id": _USER_ID,
            "notif_type": slug,
            "subject": subject,
            "message": message,
            "timestamp": now,
        }
        body, stamp = json.dumps(event, separators=(",", ":")).encode(), str(int(now))
        signature = hmac.new(hook.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Vast-Event-Id": event["event_id"],
            "X-Vast-Delivery-Attempt": "1",
            "X-Vast-Timestamp": stamp,
            "X-Vast-Signature-256": f"sha256={signature}",
        }
        self.deliveries.append(Delivery(hook.id, hook.url, headers, body))
