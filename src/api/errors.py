"""Our own answers when something went wrong, in OpenAI's shape: `{"error": {message, type, code, param}}`."""

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from vastproxy.errors import VastproxyError
from vastproxy.services.errors import (
    BackendError,
    Cancelled,
    ModelNotFound,
    NoBackendAvailable,
    NoStreamLeft,
    OverLimit,
)
from vastproxy.services.http1.headers import lines_of

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ApiError:
    """One refusal. `type` follows OpenAI's: invalid_request_error, authentication_error, server_error, …"""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    retry_after_s: int | None = None
    more_headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        # What a client wrote may be quoted in it, also halves of characters, which no UTF-8 can hold.
        return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "replace")

    def headers(self, length: int) -> list[tuple[bytes, bytes]]:
        """The headers of an answer that is this error, with a body of `length` bytes."""
        head = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
        if self.retry_after_s is not None:
            head.append((b"retry-after", str(self.retry_after_s).encode()))
        if self.status == 401:
            head.append((b"www-authenticate", b"Bearer"))
        return [*head, *self.more_headers]

    def lines(self, length: int) -> bytes:
        """The same as header lines."""
        return lines_of(self.headers(length))

    def sse_event(self) -> bytes:
        """The same, for a stream that has begun: official clients raise it as an API error."""
        return b"event: error\ndata: " + self.body() + b"\n\n"


def last_event(error: ApiError, headers: Iterable[tuple[bytes, bytes]], tail: bytes) -> bytes:
    """What to append to an answer with these headers that broke off after `tail`: an event that says so, or nothing
    where that could not be read: in anything but a stream of events, compressed, or of an announced length."""
    fields = dict(headers)
    is_sse = fields.get(b"content-type", b"").lower().startswith(b"text/event-stream")
    if not is_sse or b"content-encoding" in fields or b"content-length" in fields:
        return b""
    # An event that was cut in the middle must end, or ours would be read as a part of it.
    whole = not tail or tail.endswith((b"\n\n", b"\r\n\r\n"))
    return (b"" if whole else b"\n\n") + error.sse_event()


BAD_KEY = ApiError(
    401,
    "The API key is missing, wrong, expired or revoked. Send one of this proxy's keys as 'Authorization: Bearer …'.",
    "authentication_error",
    "invalid_api_key",
)


def too_large(limit_bytes: int, *, setting: str | None = "server.max_body_bytes") -> ApiError:
    where = f", the limit of this proxy ({setting})" if setting else ""
    return ApiError(
        413,
        f"The request body is larger than {limit_bytes} bytes{where}.",
        "invalid_request_error",
        "request_too_large",
    )


def denied_path(path: str) -> ApiError:
    return ApiError(
        403,
        f"{path} can leak or change an engine's state and is not proxied. "
        "The operator can allow it with server.allow_paths.",
        "invalid_request_error",
        "path_not_allowed",
    )


def bad_request(status: int, message: str) -> ApiError:
    """What was sent is no HTTP that could be answered in another way."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return ApiError(status, message, kind, _BAD_REQUEST_CODES.get(status, "malformed_request"))


_BAD_REQUEST_CODES = {
    414: "uri_too_long",
    417: "expectation_failed",
    431: "headers_too_large",
    405: "method_not_allowed",
    501: "not_implemented",
    505: "http_version_not_supported",
}


def request_timeout(limit_s: float, part: str) -> ApiError:
    """The client did not send its request in time. `part`: `headers` or `body`."""
    return ApiError(
        408,
        f"The request's {part} did not come within {limit_s:g} s (server.client_{part.rstrip('s')}_timeout_s).",
        "invalid_request_error",
        "request_timeout",
    )


def own_failure() -> ApiError:
    """A bug. The log has the traceback; the client has no use for it."""
    return ApiError(500, "The proxy failed on this request; its log says why.", "server_error", "proxy_error")


def from_exception(error: VastproxyError, *, to_limited: bool = False) -> ApiError:
    """The answer for an error of ours. `to_limited`: to somebody who may not use, and so not know, all models."""
    if isinstance(error, NoBackendAvailable | NoStreamLeft):
        return ApiError(
            503, f"{_sentence(error)}", "server_error", "no_backend_available", None, error.retry_after_s
        )
    if isinstance(error, OverLimit):
        text = _sentence(error)
        return ApiError(429, text, "rate_limit_error", "rate_limit_exceeded", None, error.retry_after_s)
    if isinstance(error, ModelNotFound):
        text = error.discreet if to_limited else str(error)
        return ApiError(404, text, "invalid_request_error", "model_not_found", "model")
    if isinstance(error, Cancelled):
        return ApiError(
            503, _sentence(error), "server_error", error.code, more_headers=((b"x-should-retry", b"false"),)
        )
    code = error.code if isinstance(error, BackendError) else "proxy_error"
    return ApiError(error.status, _sentence(error), "server_error", code)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


async def send_error(send: Send, error: ApiError, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Answer a request with the error, whole."""
    body = error.body()
    head = [*error.headers(len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})
