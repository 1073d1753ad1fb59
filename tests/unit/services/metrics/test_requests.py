"""Counting requests: what each adds, and that nobody can make the counters grow."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.scraped import Scraped, scraped
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.request_text import request_text
from vastproxy.services.metrics.requests import (
    DURATION_BOUNDS,
    MAX_CODES,
    MAX_SERIES,
    OTHER,
    TOKEN_BOUNDS,
    TPOT_BOUNDS,
    TTFT_BOUNDS,
    WAIT_BOUNDS,
    RequestMetrics,
)

CHAT = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "vastproxy",
    "gen_ai_request_model": "m",
}
STREAM: dict[str, Any] = {
    "operation": "chat",
    "model": "m",
    "instance_id": 7,
    "status": 200,
    "error": None,
    "attempts": 1,
    "queued_s": 0.0,
    "ttft_s": 0.5,
    "took_s": 2.5,
    "received_bytes": 10,
    "sent_bytes": 100,
    "tokens_in": 30,
    "tokens_out": 41,
    "pieces": 12,
    "streamed": True,
}


def told(
    metrics: RequestMetrics, *, served: frozenset[int] = frozenset({7}), form: Form = Form.TEXT
) -> Scraped:
    return scraped(request_text(metrics, form, served), form)


def counted(*requests: dict[str, Any], **options: Any) -> Scraped:
    metrics = RequestMetrics()
    for request in requests:
        metrics.finished(**{**STREAM, **request})
    return told(metrics, **options)


@pytest.mark.parametrize("form", Form)
def test_a_stream_counts_everywhere(form: Form) -> None:
    found = counted({}, form=form)
    assert found.get("vastproxy_requests_total", operation="chat", model="m", code="200") == 1
    assert found["vastproxy_retries_total"] == 0
    assert (found["vastproxy_received_bytes_total"], found["vastproxy_sent_bytes_total"]) == (10, 100)
    assert found.get("gen_ai_server_request_duration_seconds_sum", **CHAT) == 2.5
    assert found.get("gen_ai_server_time_to_first_token_seconds_sum", **CHAT) == 0.5
    assert found.get("gen_ai_server_time_per_output_token_seconds_sum", **CHAT) == pytest.approx(2.0 / 40)
    assert found.get("gen_ai_client_token_usage_sum", **CHAT, gen_ai_token_type="input") == 30
    assert found.get("gen_ai_client_token_usage_sum", **CHAT, gen_ai_token_type="output") == 41
    assert found.get("vastproxy_queue_wait_seconds_bucket", model="m", le="0.0") == 1
    assert found.get("vastproxy_backend_time_to_first_token_seconds_sum", instance_id="7") == 0.5
    assert found.get("vastproxy_backend_time_to_first_token_seconds_count", instance_id="7") == 1
    assert found.get("vastproxy_backend_output_tokens_total", instance_id="7") == 41
    assert "vastproxy_request_errors_total" not in found.names


def test_without_a_number_of_tokens_the_pieces_are_taken() -> None:
    found = counted({"tokens_in": None, "tokens_out": None})
    assert found.get("gen_ai_server_time_per_output_token_seconds_sum", **CHAT) == pytest.approx(2.0 / 11)
    assert "gen_ai_client_token_usage_count" not in found.names


@pytest.mark.parametrize("tokens", [0, 1])
def test_an_answer_without_a_second_token_has_no_time_between_tokens(tokens: int) -> None:
    assert "gen_ai_server_time_per_output_token_seconds_count" not in counted({"tokens_out": tokens}).names


def test_what_is_not_streamed_has_no_first_token() -> None:
    """Its first byte comes with its last."""
    found = counted({"streamed": False})
    assert "gen_ai_server_time_to_first_token_seconds_count" not in found.names
    assert found.get("vastproxy_backend_output_tokens_total", instance_id="7") == 41
    assert found.get("gen_ai_client_token_usage_count", **CHAT, gen_ai_token_type="output") == 1


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"status": 502, "error": "backend_unreachable", "ttft_s": None}, "backend_unreachable"),
        ({"status": 200, "error": "backend_interrupted"}, "backend_interrupted"),
        ({"status": 499}, "client_left"),
        ({"status": 404}, "http_404"),
        ({"status": 500}, "http_500"),
    ],
)
def test_what_went_wrong_is_told_by_kind_and_not_among_the_good(request_: dict[str, Any], kind: str) -> None:
    found = counted(request_, {})
    assert found.get("vastproxy_request_errors_total", kind=kind) == 1
    assert found.get("gen_ai_server_request_duration_seconds_count", **CHAT, error_type=kind) == 1
    assert found.get("gen_ai_server_request_duration_seconds_count", **CHAT) == 1
    assert found.get("gen_ai_server_time_to_first_token_seconds_count", **CHAT) == 1
    assert found.get("vastproxy_backend_time_to_first_token_seconds_count", instance_id="7") == 1


def test_a_request_that_nobody_served() -> None:
    """No model, no instance, no wait, no attempt: a refusal."""
    refusal = {"model": None, "instance_id": None, "status": 401, "error": "invalid_api_key", "attempts": 0}
    found = counted({**refusal, "queued_s": None, "ttft_s": None, "tokens_in": None, "tokens_out": None})
    assert found.get("vastproxy_requests_total", operation="chat", code="401") == 1
    assert "vastproxy_queue_wait_seconds_count" not in found.names
    assert not any(name.startswith("vastproxy_backend_") for name in found.names)


def test_retries_are_attempts_beyond_the_first() -> None:
    assert counted({"attempts": 3}, {"attempts": 0}, {"attempts": 1})["vastproxy_retries_total"] == 2


def test_waits_add_up_by_model() -> None:
    found = counted({"queued_s": 4.0}, {"queued_s": 0.02, "status": 503, "error": "no_backend_available"})
    assert found.get("vastproxy_queue_wait_seconds_sum", model="m") == pytest.approx(4.02)
    assert found.get("vastproxy_queue_wait_seconds_bucket", model="m", le="0.05") == 1
    assert found.get("vastproxy_queue_wait_seconds_count", model="m") == 2


def test_instances_that_are_gone_are_not_told() -> None:
    metrics = RequestMetrics()
    for id in (7, 8):
        metrics.finished(**{**STREAM, "instance_id": id})
    assert told(metrics).label_values("vastproxy_backend_output_tokens_total", "instance_id") == {"7"}
    metrics.forget(7)
    metrics.forget(9)
    assert told(metrics).all("vastproxy_backend_output_tokens_total") == {}
    assert told(metrics).get("vastproxy_requests_total", operation="chat", model="m", code="200") == 2


def test_a_client_that_makes_up_models_makes_no_labels() -> None:
    metrics = RequestMetrics(max_models=3)
    for number in range(500):
        metrics.finished(**{**STREAM, "model": f"m{number}"})
    metrics.finished(**{**STREAM, "model": "m1"})
    found = told(metrics)
    assert found.label_values("vastproxy_requests_total", "model") == {"m0", "m1", "m2", OTHER}
    assert found.get("vastproxy_requests_total", operation="chat", model="m1", code="200") == 2
    assert found.get("vastproxy_requests_total", operation="chat", model=OTHER, code="200") == 497


def test_a_long_name_is_no_label() -> None:
    assert counted({"model": "x" * 1_000}).label_values("vastproxy_requests_total", "model") == {OTHER}


def test_an_engine_that_makes_up_codes_and_errors_fills_nothing() -> None:
    metrics = RequestMetrics()
    for status in range(200, 999):
        metrics.finished(**{**STREAM, "status": status, "error": f"error_{status}"})
    found = told(metrics)
    assert len(found.label_values("vastproxy_requests_total", "code")) == MAX_CODES + 1
    assert sum(found.all("vastproxy_requests_total").values()) == 799
    assert len(found.all("vastproxy_request_errors_total")) <= MAX_CODES + 1


def test_all_names_together_are_bounded() -> None:
    """Each alone may be fine, and still there are too many combinations."""
    metrics = RequestMetrics()
    for model in range(60):
        for status in range(200, 245):
            metrics.finished(**{**STREAM, "model": f"m{model}", "status": status})
    assert MAX_SERIES <= len(metrics.series()) <= MAX_SERIES + 2
    assert sum(told(metrics).all("vastproxy_requests_total").values()) == 60 * 45


_number = st.floats(min_value=0, max_value=1e6, allow_nan=False)
_count = st.none() | st.integers(min_value=0, max_value=10_000_000)
_requests = st.lists(
    st.fixed_dictionaries(
        {
            "operation": st.sampled_from(["chat", "other"]),
            "model": st.none() | st.sampled_from(["a", "b", 'c"\\']),
            "instance_id": st.none() | st.sampled_from([7, 8]),
            "status": st.sampled_from([200, 404, 499, 503]),
            "error": st.none() | st.just("backend_error"),
            "attempts": st.integers(0, 3),
            "queued_s": st.none() | _number,
            "ttft_s": st.none() | _number,
            "took_s": _number,
            "tokens_in": _count,
            "tokens_out": _count,
            "pieces": st.integers(0, 100),
            "streamed": st.booleans(),
        }
    ),
    max_size=12,
)


@given(_requests, st.sampled_from(Form))
def test_every_request_is_in_the_page_once(requests: list[dict[str, Any]], form: Form) -> None:
    found = counted(*requests, form=form)
    assert sum(found.all("vastproxy_requests_total").values()) == len(requests)
    assert sum(found.all("gen_ai_server_request_duration_seconds_count").values()) == len(requests)
    waited = sum(request["queued_s"] is not None for request in requests)
    assert sum(found.all("vastproxy_queue_wait_seconds_count").values()) == waited
    tokens = sum(
        (request["tokens_in"] is not None) + (request["tokens_out"] is not None) for request in requests
    )
    assert sum(found.all("gen_ai_client_token_usage_count").values()) == tokens


@pytest.mark.parametrize("bounds", [DURATION_BOUNDS, TTFT_BOUNDS, TPOT_BOUNDS, TOKEN_BOUNDS, WAIT_BOUNDS])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize("took_s", [0.0, 0.01, 0.0100001, 655.36, 10_000.0])
def test_a_value_on_a_bound_is_below_it(took_s: float) -> None:
    found = counted({"took_s": took_s})
    for bound in DURATION_BOUNDS:
        below = found.get("gen_ai_server_request_duration_seconds_bucket", **CHAT, le=repr(bound))
        assert below == (took_s <= bound)


def test_repr_tells_how_much_is_counted() -> None:
    assert repr(RequestMetrics()) == "<RequestMetrics with 0 kinds of requests>"
