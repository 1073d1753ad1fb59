"""Two readings of the counters tell what was between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.live.blame import is_failure
from vastproxy.services.live.counts import NOTHING, counts_of, quantile, ttft_quantile_s
from vastproxy.services.metrics.requests import TTFT_BOUNDS, RequestMetrics

BOUNDS = (1.0, 2.0, 4.0)


def finish(
    metrics: RequestMetrics, *, status: int = 200, error: str | None = None, ttft_s: float = 0.1
) -> None:
    metrics.finished(
        "chat", "m", 1, status, error, 1, 0.0, ttft_s, 1.0, 10, 100, 7, 5, pieces=5, streamed=True
    )


def test_sums_over_all_kinds_of_requests() -> None:
    metrics = RequestMetrics()
    assert counts_of(metrics) == NOTHING
    finish(metrics)
    finish(metrics, status=404, error="model_not_found")
    finish(metrics, status=503, error="no_backend_available")
    finish(metrics, error="backend_interrupted")
    finish(metrics, status=499)
    finish(metrics, status=502)
    counts = counts_of(metrics)
    assert (counts.requests, counts.errors) == (6, 3)
    assert (counts.tokens_in, counts.tokens_out) == (42, 30)
    assert sum(counts.ttft) == 1


@pytest.mark.parametrize(
    ("status", "error", "failed"),
    [
        (200, None, False),
        (200, "backend_interrupted", True),
        (200, "request_timeout", False),
        (200, "cancelled", False),
        (503, "cancelled", False),
        (404, "model_not_found", False),
        (429, "rate_limit_exceeded", False),
        (429, "http_429", False),
        (499, None, False),
        (499, "client_left", False),
        (500, None, True),
        (502, "backend_unreachable", True),
        (101, "backend_interrupted", True),
        (0, None, False),
    ],
)
def test_who_is_to_blame(status: int, error: str | None, failed: bool) -> None:
    assert is_failure(status, error) is failed


def test_times_to_the_first_byte_between_two_moments() -> None:
    metrics = RequestMetrics()
    finish(metrics, ttft_s=0.003)
    before = counts_of(metrics)
    assert ttft_quantile_s(before, before, 0.5) is None
    for ttft_s in (0.3, 0.3, 0.3, 6.0):
        finish(metrics, ttft_s=ttft_s)
    after = counts_of(metrics)
    half, most = ttft_quantile_s(before, after, 0.5), ttft_quantile_s(before, after, 0.99)
    assert half is not None
    assert 0.25 <= half <= 0.5
    assert most is not None
    assert 5.0 <= most <= 7.5


def test_a_quantile_lies_where_its_bucket_is() -> None:
    assert quantile(BOUNDS, (0, 0, 0, 0), 0.5) is None
    assert quantile(BOUNDS, (4, 0, 0, 0), 0.5) == 0.5
    assert quantile(BOUNDS, (0, 4, 0, 0), 0.25) == 1.25
    assert quantile(BOUNDS, (0, 0, 0, 3), 0.5) == 4.0
    assert quantile(BOUNDS, (1, 0, 1, 0), 0.5) == 1.0


@given(
    st.lists(st.integers(0, 20), min_size=len(TTFT_BOUNDS) + 1, max_size=len(TTFT_BOUNDS) + 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_larger_share_never_took_less(counts: list[int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    less, more = quantile(TTFT_BOUNDS, counts, low), quantile(TTFT_BOUNDS, counts, high)
    if not sum(counts):
        assert less is more is None
        return
    assert less is not None
    assert more is not None
    assert 0.0 <= less <= more <= TTFT_BOUNDS[-1]
