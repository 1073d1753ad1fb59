"""`wrap_vast_error`: every documented answer becomes the error that tells the caller what to do."""

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vastai.support import text
from vastproxy.errors import VastproxyError
from vastproxy.vastai.errors import (
    VastError,
    VastNotFound,
    VastProtocolError,
    VastRateLimited,
    VastRejected,
    VastUnauthorized,
    VastUnavailable,
    wrap_vast_error,
)
from vastproxy.vastai.reply import Reply


def answer(status: int, body: str, **headers: str) -> VastError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wrap_vast_error(Reply(status, named, body.encode()), doing="testing", now=1_000_000_000.0)


@pytest.mark.parametrize(
    ("status", "fixture", "kind", "code", "retryable"),
    [
        (400, "error_400_invalid_args.json", VastRejected, "invalid_args", False),
        (400, "error_400_invalid_request.json", VastRejected, "invalid_request", False),
        (400, "error_400_invalid_token.json", VastRejected, "invalid_token", False),
        (401, "error_401.json", VastUnauthorized, "auth_error", False),
        (403, "error_403_no_header.json", VastUnauthorized, "auth_error", False),
        (404, "error_404_invalid_key.json", VastUnauthorized, "auth_error", False),
        (404, "error_404_no_such_instance.json", VastNotFound, "no_such_instance", False),
        (410, "error_410_no_such_ask.json", VastRejected, "no_such_ask", False),
        (429, "error_429_destroy.json", VastRateLimited, "rate_limit_exceeded", True),
        (429, "error_429_detail.json", VastRateLimited, "rate_limit_exceeded", True),
        (429, "error_429_plain.txt", VastRateLimited, "rate_limit_exceeded", True),
        (429, "error_429_search_quota.json", VastRateLimited, "search_quota_exceeded", False),
        (500, "error_500.json", VastUnavailable, "server_error", True),
        (200, "start_queued_resources_unavailable.json", VastRejected, "resources_unavailable", False),
        (200, "error_404_invalid_key.json", VastUnauthorized, "auth_error", False),
        (200, "error_404_no_such_instance.json", VastNotFound, "no_such_instance", False),
    ],
)
def test_documented_answers(status: int, fixture: str, kind: type, code: str, retryable: bool) -> None:
    error = answer(status, text(fixture))
    assert type(error) is kind
    assert (error.code, error.retryable, error.http_status) == (code, retryable, status)
    assert "testing" in str(error)
    assert "\n" not in str(error)
    assert isinstance(error, VastproxyError)


@pytest.mark.parametrize(
    ("status", "retryable"), [(500, True), (502, True), (503, True), (504, True), (501, False)]
)
def test_html_of_a_broken_edge_is_unavailable_and_not_quoted(status: int, retryable: bool) -> None:
    error = answer(status, "<html><body><h1>Bad Gateway</h1>nginx</body></html>", content_type="text/html")
    assert isinstance(error, VastUnavailable)
    assert error.retryable is retryable
    assert "<" not in str(error)


def test_html_403_says_that_the_edge_blocked_us() -> None:
    error = answer(403, "<!DOCTYPE html><title>Forbidden</title>")
    assert isinstance(error, VastUnauthorized)
    assert error.code == "edge_blocked"
    assert "blocked" in str(error)
    assert error.exit_code == 3


def test_an_expired_session_is_not_a_missing_instance() -> None:
    error = answer(404, '{"msg": "Session expired. Please log in again."}')
    assert isinstance(error, VastUnauthorized)
    assert error.code == "session_expired"
    assert "vastai tfa login" in str(error)


def test_a_key_without_the_permission_says_so() -> None:
    error = answer(403, '{"success": false, "error": "permission_denied", "msg": "no"}')
    assert isinstance(error, VastUnauthorized)
    assert error.code == "permission_denied"
    assert "permission" in str(error)


def test_a_404_that_does_not_speak_of_instances_does_not_say_one_is_gone() -> None:
    error = answer(404, "<html>nope</html>")
    assert isinstance(error, VastNotFound)
    assert error.code == "not_found"


@pytest.mark.parametrize(
    ("body", "said"), [('{"message": "one"}', "one"), ('{"detail": "two"}', "two"), ("three", "three")]
)
def test_other_shapes_of_a_refusal_are_quoted(body: str, said: str) -> None:
    error = answer(400, body)
    assert isinstance(error, VastRejected)
    assert said in str(error)
    assert error.excerpt


def test_redirects_are_an_error_about_the_address() -> None:
    error = answer(301, "", location="https://elsewhere.test/")
    assert isinstance(error, VastProtocolError)
    assert not error.retryable
    assert "VAST_URL" in str(error)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "Sun, 09 Sep 2001 01:47:10 GMT"}, 30.0),
        ({"retry_after": "Sun, 09 Sep 2001 01:46:00 -0000"}, 0.0),
        ({"x_ratelimit_reset": "1000000012"}, 12.0),
        ({"x_ratelimit_reset": "9"}, 9.0),
        ({"retry_after": "soon", "x_ratelimit_reset": "later"}, 1.0),
        ({"retry_after": "nan"}, 1.0),
    ],
)
def test_how_long_to_stay_away(headers: dict[str, str], expected: float) -> None:
    """Retry-After first (seconds or a date), then X-RateLimit-Reset, then the threshold in the text."""
    error = answer(429, text("error_429_plain.txt"), **headers)
    assert error.retry_after_s == expected


def test_nothing_said_about_the_wait_is_none() -> None:
    assert answer(429, "API requests too frequent").retry_after_s is None
    assert answer(503, "").retry_after_s is None
    assert answer(503, "", retry_after="4").retry_after_s == 4.0


@pytest.mark.parametrize(
    ("cause", "kind", "code", "retryable"),
    [
        (requests.ConnectTimeout("x"), VastUnavailable, "timeout", True),
        (requests.ReadTimeout("x"), VastUnavailable, "timeout", True),
        (TimeoutError("x"), VastUnavailable, "timeout", True),
        (urllib3.exceptions.ProtocolError("broken"), VastUnavailable, "connection_error", True),
        (
            requests.ConnectionError(ConnectionResetError(104, "Connection reset by peer")),
            VastUnavailable,
            "connection_error",
            True,
        ),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), VastUnavailable, "tls_error", False),
        (requests.exceptions.SSLError("EOF occurred"), VastUnavailable, "tls_error", True),
        (requests.exceptions.InvalidURL("x"), VastRejected, "bad_url", False),
    ],
)
def test_exceptions_of_the_http_library(cause: Exception, kind: type, code: str, retryable: bool) -> None:
    error = wrap_vast_error(cause, doing="testing")
    assert type(error) is kind
    assert (error.code, error.retryable) == (code, retryable)
    assert error.original is cause


def test_the_innermost_reason_is_told() -> None:
    inner = ConnectionRefusedError(111, "Connection refused")
    error = wrap_vast_error(
        requests.ConnectionError(urllib3.exceptions.ProtocolError("aborted", inner)), doing="testing"
    )
    assert "Connection refused" in str(error)
    assert "Errno" not in str(error)


def test_an_error_of_ours_stays_itself() -> None:
    error = VastNotFound("gone")
    assert wrap_vast_error(error, doing="testing") is error


def test_the_key_is_masked_in_what_is_quoted() -> None:
    error = wrap_vast_error(
        Reply(400, {}, b'{"msg": "key s3cret is odd"}'), doing="testing", secrets=("s3cret",)
    )
    assert "s3cret" not in f"{error} {error.excerpt}"
    assert "***" in str(error)


@settings(deadline=None)
@given(
    status=st.integers(200, 599),
    body=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode), st.just(b"[" * 5000)),
    header=st.text(max_size=40),
)
def test_any_answer_becomes_one_printable_line(status: int, body: bytes, header: str) -> None:
    """Whatever an answer holds, the result is a VastError whose text is one bounded printable line."""
    headers = {"retry-after": header, "x-ratelimit-reset": header, "content-type": header}
    error = wrap_vast_error(Reply(status, headers, body), doing="testing")
    assert str(error).isprintable()
    assert len(str(error)) < 600
    assert error.retry_after_s is None or error.retry_after_s >= 0


def test_reply_shows_no_body_in_its_repr() -> None:
    assert repr(Reply(200, {}, b"secret")) == "<Reply 200 6 bytes>"
