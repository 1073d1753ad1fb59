"""One HTTP answer as plain data, and what can be read off it without judging it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

EXCERPT_CHARS = 200
#: A reset header above this is a moment (seconds since 1970), below it a number of seconds from now.
_EPOCH_FROM = 1_000_000_000.0
_THRESHOLD = re.compile(r"threshold\s*=\s*([0-9]+(?:\.[0-9]+)?)")


def one_line(text: str, *, secrets: tuple[str, ...] = (), limit: int = EXCERPT_CHARS) -> str:
    """Text from outside made fit for a message: secrets masked, one line, bounded, no control characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    shown = "".join(char if char.isprintable() else " " for char in text[: limit * 8])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An answer read to its end, or to the limit on its size (`cut`). Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_s: float = 0.0
    cut: bool = False

    def __repr__(self) -> str:
        return f"<Reply {self.status} {len(self.body)} bytes>"

    @property
    def text(self) -> str:
        """The body as UTF-8; what is not becomes the replacement character."""
        return self.body.decode("utf-8", "replace")

    @property
    def is_html(self) -> bool:
        """Is this a page for people, as the edge in front of the API sends them?"""
        start = self.body[:512].lstrip().lower()
        return "html" in self.headers.get("content-type", "").lower() or start.startswith(
            (b"<!doctype", b"<html")
        )

    def json(self) -> Any:
        """The body as JSON. Raises ValueError for everything that cannot be read, deep nesting included."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def json_object(self) -> Mapping[str, Any]:
        """The body if it is a JSON object, else an empty mapping. Never raises."""
        try:
            value = self.json()
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def retry_after_s(reply: Reply, *, now: float) -> float | None:
    """How long the server asks us to stay away, in seconds; None if it does not say. `now` is epoch seconds.

    Read from Retry-After (seconds or an HTTP date), then X-RateLimit-Reset. The documentation of vast.ai
    (2026-08) promises neither, its command line honours the first and knows the second. Without both, the
    `threshold=` of the plain text serves: the least number of seconds between two calls.
    """
    waits = (
        _seconds_or_date(reply.headers.get("retry-after", ""), now),
        _reset(reply.headers.get("x-ratelimit-reset", ""), now),
        _number(match[1]) if (match := _THRESHOLD.search(reply.text[:4096])) else None,
    )
    return next((max(0.0, wait) for wait in waits if wait is not None), None)


def _number(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds_or_date(text: str, now: float) -> float | None:
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return None


def _reset(text: str, now: float) -> float | None:
    value = _number(text)
    if value is None:
        return None
    return value - now if value >= _EPOCH_FROM else value
