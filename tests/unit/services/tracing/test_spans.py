"""Requests as spans: whatever a request was made of, a collector can read what it is told."""

import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.tracing.context import parent_of, trace_of
from vastproxy.services.tracing.ended import Ended
from vastproxy.services.tracing.spans import resource_of, spans_of

TRACEPARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
RESOURCE = resource_of({})


def span_of(claim: Claim, *, state: bytes = b"", **told: Any) -> Any:
    """The only span of a request without attempts, as a collector reads it."""
    parent = parent_of([TRACEPARENT, (b"tracestate", state)])
    trace = trace_of(claim, parent, secret=b"s", sample_ratio=1.0)
    values: dict[str, Any] = {
        **dict.fromkeys(["key", "model", "tokens_in", "tokens_out"]),
        **{"path": b"/v1/x", "streamed": False, "client": ""},
        **told,
    }
    (span,) = spans_of(Ended(claim, trace, **values), RESOURCE, lambda at: int(at * 1e9))
    (resource,) = encode_spans([span]).resource_spans
    (scope,) = resource.scope_spans
    (found,) = scope.spans
    return found


def claim_of(status: int = 200, error: str | None = None, method: bytes = b"POST") -> Claim:
    claim = Claim(10.0, b"r", method, b"/v1/x")
    claim.status, claim.error_code, claim.ended_at = status, error, 12.5
    return claim


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_times_are_those_of_the_claim() -> None:
    span = span_of(claim_of())
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (10_000_000_000, 12_500_000_000)


@pytest.mark.parametrize(
    ("status", "error", "kind", "is_error"),
    [
        (200, None, None, False),
        (404, None, "404", False),
        (429, "rate_limit_exceeded", "rate_limit_exceeded", False),
        (499, None, "client_left", False),
        (500, None, "500", True),
        (503, "no_backend_available", "no_backend_available", True),
        (200, "backend_interrupted", "backend_interrupted", True),
        (503, "cancelled", "cancelled", False),
        (200, "cancelled", "cancelled", False),
    ],
)
def test_an_error_is_what_the_server_did_wrong(
    status: int, error: str | None, kind: str | None, is_error: bool
) -> None:
    span = span_of(claim_of(status, error))
    assert attributes(span).get("error.type") == kind
    assert (span.status.code == 2) is is_error


def test_names_are_of_what_is_asked_for() -> None:
    assert span_of(claim_of(), path=b"/v1/chat/completions", model="m").name == "chat m"
    assert span_of(claim_of(method=b"GET")).name == "GET"
    told = attributes(span_of(claim_of(), path=b"/v1/embeddings", model="m", key="web", client="192.0.2.1"))
    assert told["gen_ai.operation.name"] == "embeddings"
    assert (told["gen_ai.request.model"], told["vastproxy.key"]) == ("m", "web")
    assert told["client.address"] == "192.0.2.1"


def test_what_is_not_known_is_not_told() -> None:
    told = attributes(span_of(claim_of(status=0)))
    assert not {"gen_ai.usage.input_tokens", "vastproxy.key", "http.response.status_code"} & set(told)


@given(
    model=st.text(max_size=30),
    key=st.text(max_size=10),
    path=st.binary(max_size=30),
    state=st.binary(max_size=60),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_others_chose_a_collector_can_read_it_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture, model: str, key: str, path: bytes, state: bytes
) -> None:
    """One request of somebody's must not cost the spans of all that are sent with it, nor fill the log."""
    caplog.set_level(logging.DEBUG)
    told = attributes(span_of(claim_of(), model=model, key=key, path=path, state=state))
    assert told["gen_ai.request.model"].encode() == model.encode("utf-8", "backslashreplace")
    assert told["vastproxy.key"].encode() == key.encode("utf-8", "backslashreplace")
    assert told["url.path"].encode("latin-1") == path
    assert caplog.messages == []


def test_half_a_surrogate_is_written_out() -> None:
    assert attributes(span_of(claim_of(), model="\ud800"))["gen_ai.request.model"] == "\\ud800"


def test_the_service_is_called_as_the_environment_says() -> None:
    assert resource_of({}).attributes["service.name"] == "vastproxy"
    named = resource_of({"OTEL_SERVICE_NAME": "gateway"})
    assert named.attributes["service.name"] != "vastproxy"
