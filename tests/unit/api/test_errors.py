"""Errors in OpenAI's shape."""

import json

import pytest

from vastproxy.api.errors import BAD_KEY, bad_request, from_exception, last_event, request_timeout, too_large
from vastproxy.errors import VastproxyError
from vastproxy.services.errors import (
    BackendConnectError,
    BackendProtocolError,
    BackendTimeout,
    NoBackendAvailable,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.settings.model import ServerSettings


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


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "malformed_request"),
        (405, "invalid_request_error", "method_not_allowed"),
        (414, "invalid_request_error", "uri_too_long"),
        (417, "invalid_request_error", "expectation_failed"),
        (431, "invalid_request_error", "headers_too_large"),
        (501, "server_error", "not_implemented"),
        (505, "server_error", "http_version_not_supported"),
    ],
)
def test_what_is_no_request_has_a_code(status: int, kind: str, code: str) -> None:
    error = bad_request(status, "No.")
    assert (error.status, error.message, error.type, error.code) == (status, "No.", kind, code)


@pytest.mark.parametrize(
    ("part", "setting"),
    [("headers", "server.client_header_timeout_s"), ("body", "server.client_body_timeout_s")],
)
def test_a_timeout_names_the_setting_that_is_its_limit(part: str, setting: str) -> None:
    error = request_timeout(2.5, part)
    assert error.status == 408
    assert f"within 2.5 s ({setting})" in error.message
    assert setting.partition(".")[2] in ServerSettings.model_fields


def test_a_limit_names_its_setting_if_there_is_one() -> None:
    assert "(server.max_body_bytes)" in too_large(7).message
    assert "(" not in too_large(7, setting=None).message


SSE = (b"content-type", b"Text/Event-Stream; charset=utf-8")


@pytest.mark.parametrize(
    ("headers", "tail", "before"),
    [
        ([SSE], b"", b""),
        ([SSE], b"data: a\n\n", b""),
        ([SSE], b"data: a\r\n\r\n", b""),
        ([SSE], b"data: a\n", b"\n\n"),
        ([SSE], b"data: a", b"\n\n"),
        ([SSE, (b"content-encoding", b"gzip")], b"", None),
        ([SSE, (b"content-length", b"5")], b"", None),
        ([(b"content-type", b"application/json")], b"", None),
        ([], b"", None),
    ],
)
def test_a_broken_answer_ends_with_an_event_where_one_can_be_read(
    headers: list[tuple[bytes, bytes]], tail: bytes, before: bytes | None
) -> None:
    expected = b"" if before is None else before + BAD_KEY.sse_event()
    assert last_event(BAD_KEY, headers, tail) == expected


def test_a_name_that_utf_8_cannot_write_is_no_reason_to_say_nothing() -> None:
    """JSON can name half of a surrogate pair, so a client can ask for such a model."""
    body = bad_request(400, "No \ud800.").body()
    assert json.loads(body)["error"]["message"] == "No ?."
