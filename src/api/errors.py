"""Our own answers when something went wrong, in OpenAI's shape: `{"error": {message, type, code, param}}`."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from vastproxy.errors import VastproxyError
from vastproxy.services.errors import BackendError, NoBackendAvailable

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

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def sse_event(self) -> bytes:
        """The same, for a stream that has begun: official clients raise it as an API error."""
        return b"event: error\ndata: " + self.body() + b"\n\n"


BAD_KEY = ApiError(
    401,
    "The API key is missing or wrong. Send one of the keys this proxy was started with as 'Authorization: Bearer …'.",
    "authentication_error",
    "invalid_api_key",
)


def too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The request body is larger than {limit_bytes} bytes, the limit of this proxy (server.max_body_bytes).",
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


def from_exception(error: VastproxyError) -> ApiError:
    """The answer for an error of ours."""
    if isinstance(error, NoBackendAvailable):
        return ApiError(
            503, f"{_sentence(error)}", "server_error", "no_backend_available", None, error.retry_after_s
        )
    code = error.code if isinstance(error, BackendError) else "proxy_error"
    return ApiError(error.status, _sentence(error), "server_error", code)


def _sentence(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


async def send_error(send: Send, error: ApiError, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Answer a request with the error, whole."""
    body = error.body()
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(headers or []),
    ]
    if error.retry_after_s is not None:
        head.append((b"retry-after", str(error.retry_after_s).encode()))
    if error.status == 401:
        head.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})
