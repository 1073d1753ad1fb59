"""The metrics and labels of an expression are found, whatever stands around them."""

import pytest

from tests.helpers.promql import spoken


@pytest.mark.parametrize(
    ("expr", "metrics"),
    [
        ("up == 0", {"up"}),
        ('sum by (a) (rate(x_total{b=~"y_total|[0-9]+", c!="d"}[5m])) / 3', {"x_total"}),
        ("a / on (job, instance) group_left (state) b", {"a", "b"}),
        ("histogram_quantile(0.95, sum by (le) (rate(x_bucket[$__rate_interval])))", {"x_bucket"}),
        ('sum(x{job=~"$job"}) or vector(0)', {"x"}),
        ("deriv(sum(x)[5m:15s]) > 0 and y unless z", {"x", "y", "z"}),
        ("x * 1e3 > 0.05", {"x"}),
    ],
)
def test_metrics(expr: str, metrics: set[str]) -> None:
    assert spoken(expr).metrics == metrics


def test_labels() -> None:
    found = spoken('sum by (a, b) (x{c=~"d{2}", e!="f"}) / on (g) y{h="i"}')
    assert found.selected == {("x", "c"), ("x", "e"), ("y", "h")}
    assert found.grouped == {"a", "b", "g"}
