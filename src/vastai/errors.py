"""What can go wrong when we call vast.ai. The class says what the caller may do next.

    VastError
      VastUnauthorized       the key is missing, wrong, expired or not allowed to   final, exit code 3
      VastNotFound           there is no such thing, or it is not yours             final
      VastRejected           vast.ai understood and said no                         final
      VastRateLimited        too many calls; a daily quota is not worth retrying    try again later
      VastUnavailable        nobody answered, or the server failed                  try again later
      VastProtocolError      an answer that cannot be read                          try again once

`wrap_vast_error` is the one place where answers and exceptions of the HTTP library become these.
"""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import requests
import urllib3

from vastproxy.errors import VastproxyError
from vastproxy.vastai.reply import Reply, one_line, retry_after_s


class VastError(VastproxyError):
    """vast.ai could not be asked, or said no.

    `code` is a stable slug, vast.ai's own where it sent one. `retryable` says whether the same call may
    succeed later, and `retry_after_s` after how many seconds, if vast.ai said so. `http_status` is what
    vast.ai answered, None if it did not; `excerpt` the beginning of what it said, without secrets.
    `original` is the exception of the HTTP library, if there was one.
    """

    status: ClassVar[int] = 502
    default_code: ClassVar[str] = "vast_error"

    def __init__(
        self,
        message: str,
        code: str | None = None,
        retryable: bool | None = None,
        original: BaseException | None = None,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.code: str = code or self.default_code
        self.retryable: bool = self.transient if retryable is None else retryable
        self.original = original
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.excerpt = excerpt


class VastUnauthorized(VastError):
    """The key is not accepted: 401, 403, and the 404s of vast.ai that mean a bad or expired key."""

    exit_code = 3
    default_code = "unauthorized"


class VastNotFound(VastError):
    """There is no such thing. Only the code `no_such_instance` says so of an instance."""

    status = 404
    default_code = "not_found"


class VastRejected(VastError):
    """vast.ai understood and said no, or would: `excerpt` is the beginning of what it said."""

    default_code = "rejected"


class VastRateLimited(VastError):
    """Too many calls, or a daily quota is used up, which is not worth retrying."""

    transient = True
    status = 503
    default_code = "rate_limit_exceeded"


class VastUnavailable(VastError):
    """Nobody answered in time, the connection failed, or the server did (5xx)."""

    transient = True
    status = 503
    default_code = "unavailable"


class VastProtocolError(VastError):
    """An answer that cannot be read: not what was agreed, broken off, or a page for people."""

    transient = True
    default_code = "protocol_error"


def wrap_vast_error(
    cause: BaseException | Reply,
    *,
    doing: str,
    secrets: tuple[str, ...] = (),
    key_source: str = "VAST_API_KEY",
    now: float | None = None,
) -> VastError:
    """The error that an answer, or an exception of the HTTP library, stands for; raise it `from` the latter.

    `doing` completes "vast.ai … while" (such as "listing instances"), `secrets` are masked in whatever is
    quoted, `key_source` names where the key came from, `now` is epoch seconds for dates in headers.
    """
    if isinstance(cause, Reply):
        return _from_reply(cause, doing, secrets, key_source, time.time() if now is None else now)
    return _from_exception(cause, doing, secrets)


def _from_exception(cause: BaseException, doing: str, secrets: tuple[str, ...]) -> VastError:
    if isinstance(cause, VastError):
        return cause
    if isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return VastUnavailable(
            f"vast.ai did not answer in time while {doing}; try again later", "timeout", original=cause
        )
    reason = one_line(_reason(cause), secrets=secrets)
    if isinstance(cause, requests.exceptions.SSLError):
        return VastUnavailable(
            f"no trusted TLS connection to vast.ai while {doing}: {reason}; check the clock and VAST_URL",
            "tls_error",
            retryable="CERTIFICATE_VERIFY_FAILED" not in str(cause),
            original=cause,
        )
    if isinstance(
        cause,
        (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ),
    ):
        return VastRejected(
            f"the address of vast.ai cannot be used while {doing}; check VAST_URL", "bad_url", original=cause
        )
    return VastUnavailable(
        f"the connection to vast.ai failed while {doing}: {reason}; check the network and VAST_URL",
        "connection_error",
        original=cause,
    )


def _reason(cause: BaseException) -> str:
    """Why, in the words of the innermost exception: the outer ones wrap it in addresses of objects."""
    inner = cause
    for _ in range(8):
        around = (getattr(inner, "reason", None), *inner.args[::-1], inner.__cause__)
        below = next((one for one in around if isinstance(one, BaseException)), None)
        if below is None:
            break
        inner = below
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
    return text or type(inner).__name__


def _said(body: Mapping[str, Any], reply: Reply, secrets: tuple[str, ...]) -> str:
    """What vast.ai said, in one line: `error`, and the first of `msg`, `message`, `detail`; else the text."""
    parts = [
        body.get("error"),
        next((body[key] for key in ("msg", "message", "detail") if body.get(key)), None),
    ]
    said = ": ".join(str(part) for part in dict.fromkeys(parts) if part)
    if not said and not reply.is_html:
        said = reply.text
    return one_line(said, secrets=secrets)


def _slug(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    if not isinstance(error, str) or not error.strip():
        return ""
    return one_line(error, limit=64)


def _from_reply(reply: Reply, doing: str, secrets: tuple[str, ...], key_source: str, now: float) -> VastError:
    body = reply.json_object()
    slug, said = _slug(body), _said(body, reply, secrets)
    detail = f"HTTP {reply.status}{', ' + said if said else ''}"
    status = reply.status
    if status == 429 or slug in ("rate_limit_exceeded", "search_quota_exceeded"):
        return _rate_limited(reply, slug, doing, detail, now)
    if status in (401, 403) or slug == "auth_error" or (status == 404 and "session expired" in said.lower()):
        return _unauthorized(reply, slug, said, doing, detail, key_source)
    if status == 404:
        return VastNotFound(f"vast.ai knows no such thing while {doing} ({detail})", slug, http_status=status)
    if status >= 500:
        return VastUnavailable(
            f"vast.ai failed while {doing} ({detail}); try again later",
            slug or "server_error",
            retryable=status not in (501, 505),
            http_status=status,
            retry_after_s=retry_after_s(reply, now=now) if "retry-after" in reply.headers else None,
        )
    return _refused(reply, slug, said, doing, detail, secrets)


def _rate_limited(reply: Reply, slug: str, doing: str, detail: str, now: float) -> VastError:
    if slug == "search_quota_exceeded":
        return VastRateLimited(
            f"the daily quota of searches is used up while {doing}; it is renewed at midnight UTC ({detail})",
            slug,
            retryable=False,
            http_status=reply.status,
        )
    return VastRateLimited(
        f"vast.ai asks for fewer calls while {doing} ({detail}); another program may use the same key",
        http_status=reply.status,
        retry_after_s=retry_after_s(reply, now=now),
    )


def _unauthorized(
    reply: Reply, slug: str, said: str, doing: str, detail: str, key_source: str
) -> VastUnauthorized:
    if reply.status == 403 and reply.is_html:
        return VastUnauthorized(
            f"the edge in front of vast.ai blocked us while {doing} (HTTP 403 with a web page), before the "
            "key was looked at; some VPN and data centre addresses are blocked, try from another network",
            "edge_blocked",
            http_status=reply.status,
        )
    if "session expired" in said.lower():
        message = (
            f"the session of the key from {key_source} has expired ({detail}); log in again with "
            "`vastai tfa login`, or set VAST_API_KEY"
        )
        return VastUnauthorized(message, "session_expired", http_status=reply.status)
    if reply.status == 403 and slug != "auth_error":
        message = (
            f"the key from {key_source} may not be used for {doing} ({detail}); give it that permission "
            "at vast.ai"
        )
        return VastUnauthorized(message, slug or "forbidden", http_status=reply.status)
    message = (
        f"vast.ai does not accept the key from {key_source} while {doing} ({detail}); check it at vast.ai"
    )
    return VastUnauthorized(message, slug or None, http_status=reply.status)


def _refused(
    reply: Reply, slug: str, said: str, doing: str, detail: str, secrets: tuple[str, ...]
) -> VastError:
    status = reply.status
    excerpt = one_line(reply.text, secrets=secrets)
    if 300 <= status < 400:
        return VastProtocolError(
            f"vast.ai answered with a redirect while {doing} (HTTP {status}); it is not followed, as it "
            "would carry the key elsewhere; check VAST_URL",
            "redirected",
            retryable=False,
            http_status=status,
            excerpt=excerpt,
        )
    if status < 400 and slug in ("no_such_instance", "no_such_contract"):
        return VastNotFound(f"vast.ai knows no such thing while {doing} ({detail})", slug, http_status=status)
    if slug == "resources_unavailable":
        message = (
            f"no free GPU on the machine while {doing}; vast.ai has queued it and goes on when one is free"
        )
    elif slug == "no_such_ask":
        message = f"the offer is gone while {doing} ({said}); search again"
    else:
        message = f"vast.ai refused while {doing} ({detail})"
    return VastRejected(message, slug, http_status=status, excerpt=excerpt)
