"""Calls to vast.ai: counted and timed by operation from any thread, with bounded names."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.helpers.scraped import Scraped, scraped
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.vast_api import MAX_CODES, MAX_OPERATIONS, ApiMetrics
from vastproxy.vastai import Monitor
from vastproxy.vastai.errors import VastRejected

NAME = "vastproxy_vast_api_call_duration_seconds"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(metrics: ApiMetrics, form: Form = Form.TEXT) -> Scraped:
    return scraped(metrics.text(form), form)


def fail(monitor: Monitor, name: str, error: Exception) -> None:
    with pytest.raises(type(error)), monitor.track(name):
        raise error


@pytest.mark.parametrize("form", Form)
def test_calls_and_errors_by_operation(form: Form) -> None:
    clock = Clock()
    metrics = ApiMetrics(clock=clock)
    with metrics.track("list_instances"):
        clock.now += 0.2
    fail(metrics, "list_instances", VastRejected("no", "no_such_ask"))
    fail(metrics, "label_instance", ValueError("bug"))
    found = told(metrics, form)
    assert found.get(f"{NAME}_sum", operation="list_instances") == pytest.approx(0.2)
    assert found.get(f"{NAME}_count", operation="list_instances") == 2
    assert found.get(f"{NAME}_bucket", operation="list_instances", le="0.1") == 1
    assert found.all("vastproxy_vast_api_errors_total") == {
        frozenset({("operation", "list_instances"), ("code", "no_such_ask")}): 1,
        frozenset({("operation", "label_instance"), ("code", "ValueError")}): 1,
    }


def test_names_are_bounded() -> None:
    metrics = ApiMetrics()
    for number in range(2 * MAX_CODES):
        fail(metrics, f"operation-{number}", VastRejected("no", f"code_{number}"))
    found = told(metrics)
    assert len(found.label_values(f"{NAME}_count", "operation")) == MAX_OPERATIONS + 1
    assert len(found.all("vastproxy_vast_api_errors_total")) <= MAX_CODES + MAX_OPERATIONS + 1
    assert sum(found.all("vastproxy_vast_api_errors_total").values()) == 2 * MAX_CODES


def test_threads_lose_no_call() -> None:
    metrics = ApiMetrics()

    def call(_: int) -> None:
        with metrics.track("show_user"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(2_000)))
    assert told(metrics).get(f"{NAME}_count", operation="show_user") == 2_000


def test_nothing_is_told_before_the_first_call() -> None:
    assert told(ApiMetrics()).samples == {}
