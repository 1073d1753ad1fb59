"""Errors in OpenAI's shape."""

import json

import pytest

from vastproxy.api.errors import BAD_KEY, from_exception
from vastproxy.errors import VastproxyError
from vastproxy.services.errors import (
    BackendConnectError,
    BackendProtocolError,
    BackendTimeout,
    NoBackendAvailable,
    ResponseInterrupted,
    TunnelLost,
)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NoBackendAvailable("nobody"), 503, "no_backend_available"),
        (BackendConnectError("x"), 502, "backend_unreachable"),
        (BackendTimeout("x", phase="idle"), 504, "backend_timeout"),
        (BackendProtocolError("x"), 502, "backend_protocol_error"),
        (ResponseInterrupted("x", received=True), 502, "backend_interrupted"),
        (TunnelLost("x"), 502, "proxy_error"),
        (VastproxyError(""), 500, "proxy_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_status_and_code(error: VastproxyError, status: int, code: str) -> None:
    answer = from_exception(error)
    assert answer.status == status
    body = json.loads(answer.body())["error"]
    assert body["code"] == code
    assert body["type"] == "server_error"
    assert body["message"].endswith(".")


def test_who_waits_is_told_for_how_long() -> None:
    assert from_exception(NoBackendAvailable("x", retry_after_s=7)).retry_after_s == 7


def test_an_error_in_a_stream_is_one_event() -> None:
    event = BAD_KEY.sse_event()
    assert event.startswith(b"event: error\ndata: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 3
