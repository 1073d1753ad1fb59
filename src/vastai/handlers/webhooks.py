"""Is an event real, has it been heard before, and what does it say?

Two kinds come to the same address:

- vast.ai's webhooks, signed: `X-Vast-Signature-256: sha256=` and the HMAC-SHA256 of `timestamp.rawbody`, where the
  timestamp is that of `X-Vast-Timestamp`. Delivered at least once, so an event may come again (vast.ai API
  documentation, notification webhooks, 2026-08).
- our own instances' events, with a bearer token: an onstart script says that its container is up. Their shape is ours.

Only what is signed is believed: the event's id is read from the body, not from its header.
"""

import hashlib
import hmac
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vastproxy.errors import VastproxyError
from vastproxy.vastai.parsing import as_int, as_mapping, as_text
from vastproxy.vastai.reply import one_line

#: Events are some hundred bytes; more than this is not read.
MAX_BODY_BYTES = 64 * 1024
TOLERANCE_S = 300.0
REMEMBERED_EVENTS = 4096
#: Of what is said with the token about one instance, the same counts once in so many seconds: all machines share the
#: token, and one that told such things of the others all the time would keep them from serving.
REPEATED_S = 60.0

SIGNATURE_HEADER = b"x-vast-signature-256"
TIMESTAMP_HEADER = b"x-vast-timestamp"
AUTHORIZATION_HEADER = b"authorization"

_MAX_SLUG_CHARS = 64
_MAX_ID_CHARS = 128
#: Ids that are taken from one event, and characters of its text that are searched for them.
_MAX_IDS = 32
_MAX_TEXT_CHARS = 4096
#: vast.ai's texts are not documented, so any whole number may be an instance: who knows the instances decides.
_NUMBER = re.compile(r"(?<![0-9])(?<![0-9][.,])[0-9]{5,15}(?![0-9])(?![.,][0-9])")
_SECONDS = re.compile(rb"[0-9]{1,12}")
_CONTAINER_LABEL = re.compile(r"C\.([0-9]{1,15})")

#: Header fields as ASGI has them: names in lower case.
Headers = Iterable[tuple[bytes, bytes]]


class WebhookRefused(VastproxyError):
    """An event that is not let in. `http_status` is what its sender is answered, `code` a stable slug."""

    def __init__(self, message: str, code: str, http_status: int) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


class Origin(StrEnum):
    """Who says so."""

    VAST = "vast.ai"
    INSTANCE = "an instance"


@dataclass(frozen=True, slots=True)
class Notice:
    """What an event says. `ids` may be those of instances, or any other numbers that stand in it."""

    origin: Origin
    slug: str
    """What has happened, in lower case, such as `outbid`; "" if it does not say."""
    ids: tuple[int, ...] = ()
    event_id: str | None = None
    """The same when the event comes again."""


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of X-Vast-Signature-256 for a body sent at `timestamp` (seconds since 1970)."""
    return f"sha256={_digest(secret, str(timestamp).encode(), body)}"


class Inbox:
    """Lets events in. `secret` is what vast.ai signs with, `token` what instances send; without it, none of theirs.

    Remembers the ids of the last `remembered` events.
    """

    def __init__(
        self,
        *,
        secret: str | None,
        token: str | None,
        tolerance_s: float = TOLERANCE_S,
        remembered: int = REMEMBERED_EVENTS,
    ) -> None:
        self._secret = secret
        self._token = None if token is None else hashlib.sha256(token.encode()).digest()
        self._tolerance_s = tolerance_s
        self._remembered = remembered
        self._heard: dict[Origin, OrderedDict[str, None]] = {origin: OrderedDict() for origin in Origin}
        self._said: OrderedDict[tuple[str, int], float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Inbox open={self.is_open} heard={sum(map(len, self._heard.values()))}>"

    @property
    def is_open(self) -> bool:
        """Could any event be let in?"""
        return self._secret is not None or self._token is not None

    def take(self, headers: Headers, body: bytes, *, now: float) -> Notice | None:
        """What the event says; None if it was heard before. `now` is in seconds since 1970. Raises WebhookRefused."""
        if not self.is_open:
            raise WebhookRefused(
                "This proxy takes no events. Set webhooks.secret or webhooks.token", "webhooks_off", 404
            )
        if len(body) > MAX_BODY_BYTES:
            raise too_large()
        fields = _fields(headers)
        if SIGNATURE_HEADER not in fields:
            self._check_token(fields)
            return self._news(self._once(read_report(body)), now)
        self._check_signature(fields, body, now)
        notice = read_notice(body)
        if notice.event_id is None:  # a copy of the request would have the same signature
            notice = replace(notice, event_id=fields[SIGNATURE_HEADER].decode("latin-1"))
        return self._once(notice)

    def _once(self, notice: Notice) -> Notice | None:
        if notice.event_id is None:
            return notice
        heard = self._heard[notice.origin]
        if notice.event_id in heard:
            heard.move_to_end(notice.event_id)
            return None
        heard[notice.event_id] = None
        if len(heard) > self._remembered:
            heard.popitem(last=False)
        return notice

    def _news(self, report: Notice | None, now: float) -> Notice | None:
        """The report, if it says something that was not said a moment ago."""
        if report is None or not report.ids:
            return report
        key = (report.slug, report.ids[0])
        said_at = self._said.pop(key, None)
        is_news = said_at is None or not 0 <= now - said_at < REPEATED_S
        self._said[key] = now if said_at is None or is_news else said_at
        if len(self._said) > self._remembered:
            self._said.popitem(last=False)
        return report if is_news else None

    def _check_signature(self, fields: Mapping[bytes, bytes], body: bytes, now: float) -> None:
        timestamp = fields.get(TIMESTAMP_HEADER, b"")
        known = None if self._secret is None else _digest(self._secret, timestamp, body)
        scheme, _, sent = fields[SIGNATURE_HEADER].strip().partition(b"=")
        if known is None or scheme != b"sha256" or not hmac.compare_digest(sent.lower(), known.encode()):
            raise WebhookRefused(
                "The signature is missing or wrong. Is webhooks.secret the one of this webhook?",
                "invalid_signature",
                401,
            )
        # Who could sign it learns what is wrong; nobody else gets this far.
        if not _SECONDS.fullmatch(timestamp):
            raise WebhookRefused("X-Vast-Timestamp is not a number of seconds", "invalid_event", 400)
        if abs(now - int(timestamp)) > self._tolerance_s:
            raise WebhookRefused(
                f"X-Vast-Timestamp is more than {self._tolerance_s:g} s from this proxy's clock",
                "stale_timestamp",
                401,
            )

    def _check_token(self, fields: Mapping[bytes, bytes]) -> None:
        scheme, _, token = fields.get(AUTHORIZATION_HEADER, b"").partition(b" ")
        sent = hashlib.sha256(token.strip()).digest()
        if self._token is None or scheme.lower() != b"bearer" or not hmac.compare_digest(sent, self._token):
            raise WebhookRefused(
                "Neither a signature of vast.ai's nor the bearer token of this proxy's instances (webhooks.token)",
                "invalid_signature",
                401,
            )


def too_large() -> WebhookRefused:
    """The body is longer than MAX_BODY_BYTES."""
    return WebhookRefused(f"An event has at most {MAX_BODY_BYTES} bytes", "request_too_large", 413)


def read_notice(body: bytes) -> Notice:
    """What a webhook of vast.ai says, whatever may be missing in it. Raises WebhookRefused if it is no JSON object."""
    event = _object(body)
    inner = as_mapping(event.get("associated_id"))
    named = [as_int(one) for one in (event.get("instance_id"), inner.get("instance_id"))]
    text = " ".join((as_text(event.get(key)) or "")[:_MAX_TEXT_CHARS] for key in ("subject", "message"))
    ids = _ids([*named, *map(int, _NUMBER.findall(text))])
    return Notice(Origin.VAST, _slug(event.get("notif_type")), ids, _event_id(event))


def read_report(body: bytes) -> Notice:
    """What one of our instances says: `event` and `container_id`. Raises WebhookRefused if it is no JSON object."""
    event = _object(body)
    label = _CONTAINER_LABEL.fullmatch(as_text(event.get("label")) or "")
    named = [event.get("container_id"), event.get("instance_id"), label[1] if label else None]
    # An instance speaks of itself, so of one.
    return Notice(Origin.INSTANCE, _slug(event.get("event")), _ids(map(as_int, named))[:1], _event_id(event))


def _digest(secret: str, timestamp: bytes, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp + b"." + body, hashlib.sha256).hexdigest()


def _fields(headers: Headers) -> dict[bytes, bytes]:
    """The fields that count. One that comes twice could be read in two ways, so it is refused."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in (SIGNATURE_HEADER, TIMESTAMP_HEADER, AUTHORIZATION_HEADER):
            if name in fields:
                raise WebhookRefused(f"There is more than one {name.decode()} header", "invalid_event", 400)
            fields[name] = value
    return fields


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise WebhookRefused("The body is not a JSON object", "invalid_event", 400)
    return event


def _event_id(event: Mapping[str, Any]) -> str | None:
    value = as_text(event.get("event_id"))
    return value if value is not None and len(value) <= _MAX_ID_CHARS else None


def _slug(value: object) -> str:
    """`client:outbid` and `Outbid` are `outbid`."""
    return one_line(as_text(value) or "", limit=_MAX_SLUG_CHARS).rpartition(":")[2].strip().lower()


def _ids(numbers: Iterable[int | None]) -> tuple[int, ...]:
    found: Sequence[int] = [number for number in numbers if number is not None and number > 0]
    return tuple(dict.fromkeys(found))[:_MAX_IDS]
