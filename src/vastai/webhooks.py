"""The account's webhooks: addresses that vast.ai tells of outbid, stopped and offline instances.

Facts: vast.ai API documentation (notification webhooks, notification types), 2026-08. At most four for each user; the
address must be https and public; deliveries are signed with a secret that is shown once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from vastproxy.vastai.calls import Caller
from vastproxy.vastai.errors import VastProtocolError, VastRejected
from vastproxy.vastai.parsing import as_float, as_int, as_mapping, as_rows, as_text, as_texts
from vastproxy.vastai.reply import one_line
from vastproxy.vastai.transport import Call

MAX_URL_CHARS = 2048
_PATH = "/api/v0/webhooks/"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address. `secret` is known only in the answers to creating it and to rotating its secret."""

    id: int
    name: str = ""
    url: str = ""
    event_types: tuple[str, ...] = ()
    """Such as `client:outbid`."""
    created_at: float | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The webhook in a row, None if it has no id. Never raises for any JSON."""
        if (number := as_int(row.get("id"))) is None:
            return None
        return cls(
            number,
            as_text(row.get("name")) or "",
            as_text(row.get("webhook_url")) or "",
            as_texts(row.get("event_types")),
            as_float(row.get("created_at")),
            as_text(row.get("webhook_secret")),
        )

    def to_json(self) -> dict[str, Any]:
        """What may be shown of it, as JSON values: everything but the secret."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "event_types": list(self.event_types),
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class NotificationType:
    """Something that vast.ai can tell of. `key` is what a webhook subscribes to, `slug` what its events carry."""

    key: str
    slug: str
    name: str = ""

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The type in a row, None if it has no key. Never raises for any JSON."""
        if (key := as_text(row.get("key"))) is None:
            return None
        slug = as_text(row.get("slug")) or key.rpartition(":")[2]
        return cls(key, slug, as_text(row.get("display_name")) or "")


class Webhooks:
    """The calls. Every method raises VastError and nothing else. Nothing is cached."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> tuple[Webhook, ...]:
        """All webhooks of the user, by id."""
        doing = "listing webhooks"
        answer = self._caller.run(Call("webhooks", "GET", _PATH, "webhooks.list", doing))
        rows = answer if isinstance(answer, list) else as_mapping(answer).get("webhooks")
        if not isinstance(rows, list):
            raise VastProtocolError(f"the answer of vast.ai has no list of webhooks while {doing}", "no_list")
        found = (Webhook.from_json(row) for row in as_rows(rows))
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.id))

    def types(self) -> tuple[NotificationType, ...]:
        """What a webhook can subscribe to."""
        doing = "listing notification types"
        path = "/api/v0/notification-types/"
        answer = self._caller.run(Call("notification_types", "GET", path, "webhooks.types", doing))
        rows = answer if isinstance(answer, list) else as_mapping(answer).get("notification_types")
        if not isinstance(rows, list):
            raise VastProtocolError(f"the answer of vast.ai has no list of types while {doing}", "no_list")
        found = (NotificationType.from_json(row) for row in as_rows(rows))
        return tuple(one for one in found if one is not None)

    def create(self, url: str, event_types: Sequence[str], *, name: str = "vastproxy") -> Webhook:
        """Let vast.ai send these events to `url` from now on. The answer alone has the `secret`.

        Not repeated after a failure that may have come too late: look at the list first.
        """
        _check_url(url)
        body = {"name": name, "webhook_url": url, "event_types": list(event_types)}
        call = Call("create_webhook", "POST", _PATH, "webhooks.create", "creating a webhook", body=body)
        return self._with_secret(self._caller.run(call, tries=1), call.doing)

    def rotate_secret(self, webhook_id: int) -> Webhook:
        """A new secret for a webhook; the one before is worth nothing any more."""
        doing = f"rotating the secret of webhook {webhook_id}"
        path = f"{_PATH}{_checked(webhook_id)}/rotate-secret/"
        call = Call("rotate_webhook_secret", "POST", path, "webhooks.rotate", doing, body={})
        answer = as_mapping(self._caller.run(call, tries=1))
        # Whether the answer repeats the whole webhook is not documented.
        inner = {"id": webhook_id, **answer, **as_mapping(answer.get("webhook"))}
        return self._with_secret({"webhook": inner}, doing)

    def delete(self, webhook_id: int) -> None:
        """Let vast.ai send nothing there any more."""
        doing = f"deleting webhook {webhook_id}"
        path = f"{_PATH}{_checked(webhook_id)}/"
        self._caller.run(Call("delete_webhook", "DELETE", path, "webhooks.delete", doing, body={}))

    def send_test(self, webhook_id: int) -> None:
        """Let vast.ai send the event `webhook_test` there, once."""
        doing = f"testing webhook {webhook_id}"
        path = f"{_PATH}{_checked(webhook_id)}/test/"
        self._caller.run(Call("test_webhook", "POST", path, "webhooks.test", doing, body={}), tries=1)

    def _with_secret(self, answer: object, doing: str) -> Webhook:
        webhook = Webhook.from_json(as_mapping(as_mapping(answer).get("webhook")))
        if webhook is None or webhook.secret is None:
            raise VastProtocolError(
                f"the answer of vast.ai holds no webhook with its secret while {doing}; "
                "see `vastproxy webhooks list`, and rotate the secret of one that is there",
                "no_secret",
                False,
            )
        return webhook


def _check_url(url: str) -> None:
    if not url.startswith("https://") or len(url) > MAX_URL_CHARS or not url.isprintable() or " " in url:
        raise VastRejected(
            f"vast.ai sends webhooks to addresses that begin with https:// and have at most {MAX_URL_CHARS} "
            f"characters, not to {one_line(url, limit=80)}",
            "invalid_args",
        )


def _checked(webhook_id: int) -> int:
    """The id as part of a path."""
    if isinstance(webhook_id, bool) or not isinstance(webhook_id, int) or webhook_id <= 0:
        raise VastRejected(f"{one_line(repr(webhook_id), limit=40)} is no webhook id", "invalid_args")
    return webhook_id
