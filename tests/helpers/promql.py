"""Just enough of PromQL to know which metrics and labels an expression speaks of."""

import re
from dataclasses import dataclass

#: Operators and functions. Every other word is a metric.
_WORDS = frozenset(
    {
        *(
            "and",
            "or",
            "unless",
            "on",
            "ignoring",
            "by",
            "without",
            "group_left",
            "group_right",
            "bool",
            "offset",
        ),
        *("inf", "nan", "sum", "avg", "min", "max", "count", "stddev", "topk", "bottomk", "quantile", "rate"),
        *("irate", "increase", "delta", "deriv", "changes", "histogram_quantile", "clamp_min", "clamp_max"),
        *("vector", "scalar", "max_over_time", "min_over_time", "avg_over_time", "time", "absent"),
    }
)
#: Labels that Prometheus adds to what it scrapes, or to buckets.
ALWAYS = frozenset({"job", "instance", "le", "__name__"})
#: Metrics that Prometheus makes itself.
OWN = frozenset({"up"})

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)?\{([^{}]*)\}")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_WORD = re.compile(r"(?<![\w:$.])[a-zA-Z_:][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class Spoken:
    """Metrics with the labels they are selected by, and the labels that results are grouped by."""

    metrics: frozenset[str]
    selected: frozenset[tuple[str, str]]
    grouped: frozenset[str]


def spoken(expr: str) -> Spoken:
    """What an expression speaks of."""
    plain = _RANGE.sub("", _STRING.sub('""', expr))
    metrics, selected = set(), set()
    for name, matchers in _SELECTOR.findall(plain):
        labels = re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", matchers)
        metrics.add(name)
        selected |= {(name, label) for label in labels}
    plain = _SELECTOR.sub(r" \1 ", plain)
    grouped = {
        label.strip() for group in _GROUPING.findall(plain) for label in group.split(",") if label.strip()
    }
    plain = _GROUPING.sub(" ", plain)
    metrics |= {word for word in _WORD.findall(plain) if word.lower() not in _WORDS}
    return Spoken(frozenset(metrics), frozenset(selected), frozenset(grouped))
