"""The metrics of what instances cost, beside those of `families.py`. Pure."""

from typing import Final

from vastproxy.services.metrics.exposition import Family

RENT: Final = Family(
    "vastproxy_rent_dollars_total",
    "counter",
    "Dollars that instances have cost while this process saw them, by whether they had something to do (use=busy) or "
    "not (use=idle).",
    ("use",),
)
BANDWIDTH: Final = Family(
    "vastproxy_bandwidth_dollars_total",
    "counter",
    "Dollars for bytes of requests and answers, where vast.ai tells what traffic of the instance costs.",
)
TOKENS: Final = Family(
    "vastproxy_tokens_total",
    "counter",
    "Tokens of prompts (direction=prompt) and answers (direction=answer): as engines tell, else estimated.",
    ("model", "direction"),
)
ESTIMATED: Final = Family(
    "vastproxy_estimated_tokens_total",
    "counter",
    "Of vastproxy_tokens_total, those that are an estimate.",
    ("model",),
)

COST_FAMILIES: Final = (RENT, BANDWIDTH, TOKENS, ESTIMATED)
